-- Does:    lists the constraints and indexes that stand on some tables.
-- Takes:   tables: their names.
-- Returns: a row for each: name, and whether it holds for every row (valid).
-- Locks:   nothing.
-- Index:   the catalogue's own.
with standing as (
    select oid from pg_class where relname = any (%(tables)s::text[]) and pg_table_is_visible(oid)
)
select conname::text, convalidated from pg_constraint where conrelid in (select oid from standing)
union
select index.relname::text, pg_index.indisvalid
from pg_index
join pg_class as index on index.oid = pg_index.indexrelid
where pg_index.indrelid in (select oid from standing)
