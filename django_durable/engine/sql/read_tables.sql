-- Does:    reads how well autovacuum keeps up with some tables.
-- Takes:   tables: their names.
-- Returns: a row for each: name, live and dead rows as estimated, when it was last vacuumed, and
--          whether its own options switch autovacuum off.
-- Locks:   nothing.
-- Index:   the catalogue's own.
select
    stat.relname::text, stat.n_live_tup, stat.n_dead_tup,
    greatest(stat.last_autovacuum, stat.last_vacuum),
    coalesce('autovacuum_enabled=false' = any (class.reloptions), false)
from pg_stat_user_tables as stat
join pg_class as class on class.oid = stat.relid
where stat.relname = any (%(tables)s::text[]) and pg_table_is_visible(stat.relid)
order by stat.relname
