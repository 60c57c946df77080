-- The group whose limit applies to a task; the first task of the graph with which the task was
-- submitted; and, in the row of that first task, the name of the graph.
ALTER TABLE task ADD COLUMN in_group TEXT;
ALTER TABLE task ADD COLUMN graph BLOB;
ALTER TABLE task ADD COLUMN graph_name TEXT;

UPDATE task SET in_group = json_extract(body, '$.request.group')
WHERE json_valid(body) AND json_extract(body, '$.request.group') IS NOT NULL;

CREATE INDEX task_by_group ON task (in_group, id) WHERE in_group IS NOT NULL;
CREATE INDEX task_by_graph ON task (graph, id) WHERE graph IS NOT NULL;
CREATE INDEX graph_by_name ON task (graph_name, id) WHERE graph_name IS NOT NULL;

-- For the tasks that ended last.
CREATE INDEX task_by_end ON task (finished_at, id) WHERE finished_at IS NOT NULL;
