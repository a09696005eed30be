-- Does:    notes how many jobs this claim starts under rates, and forgets starts out of the period.
-- Takes:   arrays with an element for each rate: scopes (queue/NAME, or limit/NAME), limit_keys,
--          jobs; started_at: the time of the claim.
-- Returns: nothing.
-- Locks:   the rows it deletes; nobody else looks at them while the limits are held.
-- Index:   limitstart_latest, durable_queue_pkey, durable_limit_pkey.
with
noted as (
    insert into durable_limitstart (scope, limit_key, started_at, jobs)
    select scope, limit_key, %(started_at)s::timestamptz, jobs
    from unnest(%(scopes)s::text[], %(limit_keys)s::text[], %(jobs)s::int[])
        as new (scope, limit_key, jobs)
    returning scope, limit_key
)
delete from durable_limitstart where id in (
    select old.id
    from noted
    cross join lateral (
        select coalesce(
            (select period from durable_queue where scope = 'queue/' || name),
            (select period from durable_limit where scope = 'limit/' || name)
        ) as period
    ) as rule
    cross join lateral (
        select id from durable_limitstart
        where scope = noted.scope and limit_key = noted.limit_key
            and started_at <= statement_timestamp() - rule.period
        order by started_at desc
        limit 20
    ) as old
)
