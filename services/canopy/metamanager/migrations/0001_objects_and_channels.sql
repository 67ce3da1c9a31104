-- What should be. `body` is the object as the cloud sent it; as_of and proven are JSON, absent before the first message.
CREATE TABLE objects (
  channel TEXT NOT NULL,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  uid TEXT NOT NULL,
  digest TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (channel, kind, namespace, name)
) WITHOUT ROWID;

CREATE TABLE channels (
  channel TEXT PRIMARY KEY,
  as_of BLOB NOT NULL,
  proven BLOB,
  cluster TEXT NOT NULL
) WITHOUT ROWID;
