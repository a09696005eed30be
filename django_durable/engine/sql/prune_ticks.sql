-- Does:    deletes one chunk of ticks that are older than the retention.
-- Takes:   retention, limit.
-- Returns: nothing; the count says how many.
-- Locks:   the rows for update, skip locked.
-- Index:   tick_oldest.
with doomed as (
    select id from durable_tick
    where tick_at < statement_timestamp() - %(retention)s::interval
    order by tick_at
    limit %(limit)s
    for update skip locked
)
delete from durable_tick as t using doomed where t.id = doomed.id
