"""What is kept: SQLite files with numbered migrations, and the cloud's cache. Units' rows modules call it."""
