-- The data model of a celeriac SQLite file.
--
-- message: one row per task on its way.  state 0 ready, 1 held, 2 delayed.  `lost` counts the
--   holders that died with it; `token` is that of the claim that holds it, `holder` the consumer.
-- buried: messages taken out of the flow, with the reason.
-- holder: one row per living consumer; its lease is on CLOCK_BOOTTIME of the boot it names.
-- result, chord, part: task states; groups in progress; their filled slots.
-- news: the bus, a short memory of what was said on each topic.
-- upkeep: one row: the last tick (boot time), and until when hung holders are let be.
CREATE TABLE message(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, priority INTEGER NOT NULL,
    state INTEGER NOT NULL, due REAL NOT NULL, expires REAL NOT NULL, attempt INTEGER NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0, token INTEGER, holder INTEGER, at REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX ready ON message(queue, priority DESC, seq) WHERE state = 0 AND lost = 0;
CREATE INDEX suspect ON message(queue, priority DESC, seq) WHERE state = 0 AND lost > 0;
CREATE INDEX delayed ON message(due) WHERE state = 2;
CREATE INDEX held ON message(holder) WHERE state = 1;
CREATE TABLE buried(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, priority INTEGER NOT NULL,
    due REAL NOT NULL, expires REAL NOT NULL, attempt INTEGER NOT NULL, handed_out INTEGER NOT NULL,
    at REAL NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE holder(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, boot TEXT NOT NULL, lease_until REAL NOT NULL, pid INTEGER);
CREATE TABLE result(
    id TEXT PRIMARY KEY, state TEXT NOT NULL, final INTEGER NOT NULL, attempt INTEGER NOT NULL,
    handed_out INTEGER NOT NULL, expires REAL NOT NULL, body BLOB) WITHOUT ROWID;
CREATE INDEX result_expiry ON result(expires) WHERE expires > 0;
CREATE TABLE chord(
    id TEXT PRIMARY KEY, size INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0, expires REAL NOT NULL,
    body BLOB NOT NULL, on_error BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE part(
    chord TEXT NOT NULL, slot INTEGER NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
    handed_out INTEGER NOT NULL, expires REAL NOT NULL, body BLOB, PRIMARY KEY(chord, slot)) WITHOUT ROWID;
CREATE TABLE news(seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE upkeep(one INTEGER PRIMARY KEY CHECK(one = 1), tick REAL NOT NULL, boot TEXT NOT NULL, grace REAL NOT NULL);
INSERT INTO upkeep VALUES(1, 0, '', 0);
