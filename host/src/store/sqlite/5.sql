-- What a task depends on, sorted: 17 bytes for each, its id and the code of the condition (row.rs). One row for a task and not one for an edge:
-- a graph may have a million of them.
CREATE TABLE depends_on (
    task BLOB PRIMARY KEY NOT NULL,
    edges BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Who depends on a task, as far as one batch said so: 16 bytes for each, sorted. Those that are gone stay named.
CREATE TABLE dependant (
    upstream BLOB NOT NULL,
    batch INTEGER NOT NULL,
    tasks BLOB NOT NULL,
    PRIMARY KEY (upstream, batch)
) STRICT, WITHOUT ROWID;
