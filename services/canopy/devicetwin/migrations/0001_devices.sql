-- One row a device: what the cloud says of it, its whole state, and what only this node knows (JSON).
CREATE TABLE devices (
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  uid TEXT NOT NULL,
  device_revision INTEGER NOT NULL,
  spec BLOB NOT NULL,
  state BLOB NOT NULL,
  revision INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL,
  local BLOB NOT NULL,
  trace TEXT NOT NULL,
  PRIMARY KEY (namespace, name)
) WITHOUT ROWID;

-- Where reading the gateway's stream goes on, and how new the set is that was last applied.
CREATE TABLE marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
