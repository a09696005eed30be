-- Does:    forgets starts under rates that are out of their period, or have no rate any more.
-- Takes:   limit: how many at most.
-- Returns: a row for each: id.
-- Locks:   the rows it deletes, skip locked.
-- Index:   none: the table is small, and the oldest rows come first.
delete from durable_limitstart where id in (
    select id from durable_limitstart as old
    where not exists (
        select from durable_limit
        where old.scope = 'limit/' || name and old.started_at > statement_timestamp() - period
    )
    and not exists (
        select from durable_queue
        where old.scope = 'queue/' || name and old.started_at > statement_timestamp() - period
    )
    order by id
    limit %(limit)s
    for update skip locked
)
returning id
