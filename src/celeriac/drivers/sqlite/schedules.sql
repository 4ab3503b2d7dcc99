-- Entries of beat, see ports/schedules.py.  `version` is taken from `entry_version`, which only grows, so
-- that an entry that was deleted and made again is another one.
CREATE TABLE entry(
    scope TEXT NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL, next_at REAL, from_code INTEGER NOT NULL,
    paused INTEGER NOT NULL, last_at REAL NOT NULL, runs INTEGER NOT NULL, version INTEGER NOT NULL,
    claims INTEGER NOT NULL DEFAULT 0, owner TEXT NOT NULL DEFAULT '', until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY(scope, name)) WITHOUT ROWID;
CREATE INDEX entry_due ON entry(scope, next_at) WHERE next_at IS NOT NULL;
CREATE TABLE entry_version(one INTEGER PRIMARY KEY CHECK(one = 1), last INTEGER NOT NULL);
INSERT INTO entry_version VALUES(1, 0);
