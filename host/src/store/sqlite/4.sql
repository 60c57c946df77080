-- Amounts spent, in millionths of a US dollar. Scope 0 is a day: `id` is its number since 1970 in
-- UTC, as 8 bytes, the highest byte first. Scope 1 is a graph: `id` is the id of its first task.
CREATE TABLE spent (
    scope INTEGER NOT NULL,
    id BLOB NOT NULL,
    micro_usd INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
