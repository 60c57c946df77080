-- The tasks on which each task depends. The codes of conditions are in row.rs.
CREATE TABLE dependency (
    task BLOB NOT NULL,
    upstream BLOB NOT NULL,
    condition INTEGER NOT NULL,
    PRIMARY KEY (task, upstream)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_by_upstream ON dependency (upstream, task);

-- The task whose end caused this task's own end. A retry of the culprit revives this task.
ALTER TABLE task ADD COLUMN culprit BLOB;
CREATE INDEX task_by_culprit ON task (culprit, id) WHERE culprit IS NOT NULL;

-- Groups that somebody has paused, or for which somebody has set a limit.
CREATE TABLE task_group (
    name TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;
