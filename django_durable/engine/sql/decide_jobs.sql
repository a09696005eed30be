-- Does:    says when calls are due that are about to be copied in, all by one reading of the clock;
--          wakes each queue at commit.
-- Takes:   arrays with an element for each kind of call: queue_names, run_afters, delays,
--          deadlines_at, deadlines; notify_queues.
-- Returns: a row for each, in their order: state, due_at, enqueued_at, deadline_at, and the number
--          of queues woken.
-- Locks:   nothing.
-- Index:   none read but durable_worker, a handful of rows.
with
kind as materialized (
    select
        index, queue_name,
        greatest(
            statement_timestamp(), coalesce(run_after, statement_timestamp() + delay)
        ) as due_at,
        least(deadline_at, statement_timestamp() + deadline) as deadline_at
    from unnest(
        %(queue_names)s::text[], %(run_afters)s::timestamptz[], %(delays)s::interval[],
        %(deadlines_at)s::timestamptz[], %(deadlines)s::interval[]
    ) with ordinality as call (queue_name, run_after, delay, deadline_at, deadline, index)
),
-- each queue in which somebody listens who would not look anyway
woken as (
    select pg_notify('durable', queue_name)
    from (
        select distinct queue_name from kind where due_at = statement_timestamp()
    ) as queue
    where queue_name = any (%(notify_queues)s::text[]) and exists (
        select from durable_worker
        where lost_at is null and stopped_at is null and not backlogged
            and (queues = '{}' or queue.queue_name = any (queues))
    )
)
select
    case when due_at > statement_timestamp() then 'SCHEDULED' else 'READY' end,
    due_at, statement_timestamp(), deadline_at, (select count(*) from woken)
from kind order by index
