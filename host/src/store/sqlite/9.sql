-- For finding a task by the end of its id: the last 20 random bits, which are the last four digits
-- that people read.
CREATE INDEX task_by_last_digits ON task (substr(hex(id), 28), id);
