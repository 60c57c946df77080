-- What is set for the whole queue: a pause, and how many run at once. No row until somebody sets it.
CREATE TABLE queue (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
) STRICT;
