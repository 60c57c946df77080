-- The tasks on which a task depends, sorted: 17 bytes for each, which are its id and the code of
-- the condition (row.rs). There is one row for a task and not one for each edge, since a graph may
-- have a million edges.
CREATE TABLE depends_on (
    task BLOB PRIMARY KEY NOT NULL,
    edges BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The tasks of one batch that depend on a task: 16 bytes for each, sorted. Tasks that were removed
-- are still listed.
CREATE TABLE dependant (
    upstream BLOB NOT NULL,
    batch INTEGER NOT NULL,
    tasks BLOB NOT NULL,
    PRIMARY KEY (upstream, batch)
) STRICT, WITHOUT ROWID;
