-- What each task depends on, and who depends on it. Conditions are in row.rs.
CREATE TABLE dependency (
    task BLOB NOT NULL,
    upstream BLOB NOT NULL,
    condition INTEGER NOT NULL,
    PRIMARY KEY (task, upstream)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_by_upstream ON dependency (upstream, task);

-- The task whose end a task's own end follows from: what a retry of that one revives.
ALTER TABLE task ADD COLUMN culprit BLOB;
CREATE INDEX task_by_culprit ON task (culprit, id) WHERE culprit IS NOT NULL;

-- Groups that somebody has set a limit for, or paused.
CREATE TABLE task_group (
    name TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;
