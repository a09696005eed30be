-- Does:    makes the rows of limits that tasks declare, and takes a changed declaration over, where
--          no operator has said otherwise since.
-- Takes:   arrays with an element for each limit: names, concurrencies, rates, periods; is_new_only:
--          whether to leave rows alone that exist.
-- Returns: a row for each that was made or changed: name.
-- Locks:   the rows it changes, by name; waits for a claim that holds one.
-- Index:   durable_limit_pkey.
insert into durable_limit as known (
    name, concurrency, rate, period, declared_concurrency, declared_rate, declared_period
)
select name, concurrency, rate, period, concurrency, rate, period
from unnest(
    %(names)s::text[], %(concurrencies)s::int[], %(rates)s::int[], %(periods)s::interval[]
) as said (name, concurrency, rate, period)
where not exists (
    select from durable_limit as same
    where same.name = said.name and (
        %(is_new_only)s::boolean
        or (same.declared_concurrency, same.declared_rate, same.declared_period)
            is not distinct from (said.concurrency, said.rate, said.period)
    )
)
order by name
on conflict (name) do update set
    concurrency = case
        when known.concurrency is not distinct from known.declared_concurrency
            then excluded.concurrency
        else known.concurrency
    end,
    rate = case
        when (known.rate, known.period)
            is not distinct from (known.declared_rate, known.declared_period)
            then excluded.rate
        else known.rate
    end,
    period = case
        when (known.rate, known.period)
            is not distinct from (known.declared_rate, known.declared_period)
            then excluded.period
        else known.period
    end,
    declared_concurrency = excluded.declared_concurrency,
    declared_rate = excluded.declared_rate,
    declared_period = excluded.declared_period
where not %(is_new_only)s::boolean
returning name
