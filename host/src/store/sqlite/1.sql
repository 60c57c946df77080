-- The host that may write, and the last numbers of batches and events. There is always one row.
CREATE TABLE leader (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    last_batch INTEGER NOT NULL,
    last_event INTEGER NOT NULL
) STRICT;
INSERT INTO leader VALUES (1, 0, 0, 0);

-- Times are milliseconds since 1970. Ids are 16 bytes, and sort by creation. The codes of `status`
-- are in row.rs; codes of unfinished tasks are below 10.
CREATE TABLE task (
    id BLOB PRIMARY KEY NOT NULL,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    executor TEXT NOT NULL,
    name TEXT,
    parent BLOB,
    idempotency_key TEXT,
    body TEXT NOT NULL
) STRICT;

-- For the tasks that a new host loads, for lists by state or outcome, and for counts.
CREATE INDEX task_by_status ON task (status, id);
-- The following indexes are partial: each has only the tasks that its queries can find.
CREATE INDEX task_by_name ON task (name, id) WHERE name IS NOT NULL;
CREATE INDEX unfinished_by_name ON task (name, id) WHERE name IS NOT NULL AND status < 10;
CREATE INDEX task_by_parent ON task (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX task_by_key_age ON task (created_at, id) WHERE idempotency_key IS NOT NULL;

-- The kinds are in row.rs. A document that belongs to a task and not to an attempt has attempt 0.
CREATE TABLE document (
    task BLOB NOT NULL,
    kind INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, kind, attempt)
) STRICT, WITHOUT ROWID;

-- Events are read in the order of their numbers, and the oldest are removed first. No query looks
-- up the events of one task.
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Accounts at a usage limit.
CREATE TABLE account (
    key TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;
