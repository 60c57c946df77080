-- The resources that attempts of each class have needed. The key is the class as JSON, with sorted
-- names.
CREATE TABLE profile (
    key TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;
