-- Does:    takes limits for this claim: until it commits nobody else starts jobs under them.
-- Takes:   queues: names of queues with limits; limits: names of limits.
-- Returns: a row for each that is held now: kind (queue or limit), name; and one for each limit that
--          has no row: missing, name. Neither: another claim, or an operator, holds it.
-- Locks:   the rows of queues, then of limits, for no key update, skip locked.
-- Index:   durable_queue_pkey, durable_limit_pkey.
with
queue as (
    select name from durable_queue
    where name = any (%(queues)s::text[])
    order by name
    for no key update skip locked
),
held as (
    select name from durable_limit
    where name = any (%(limits)s::text[])
    order by name
    for no key update skip locked
)
select 'queue', name from queue
union all
select 'limit', name from held
union all
select 'missing', wanted.name
from unnest(%(limits)s::text[]) as wanted (name)
where not exists (select from durable_limit as known where known.name = wanted.name)
