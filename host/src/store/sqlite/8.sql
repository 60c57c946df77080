-- Settings of the whole queue: a pause, and the number of slots. There is no row until somebody
-- sets one of them.
CREATE TABLE queue (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
) STRICT;
