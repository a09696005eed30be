-- Does:    counts each queue's ready jobs and finds the oldest, reading a bounded number of rows.
-- Takes:   queues: their names; limit: how many rows to read of each, and of those under limits.
-- Returns: a row for each queue that has any: queue_name, jobs (at most limit, and so many under
--          limits), suspects among them, and when the oldest became due, whatever its priority; of
--          those under limits, which come by their keys, the oldest of the rows read.
-- Locks:   nothing.
-- Index:   job_claim: the head of each queue, then one entry for each priority there is;
--          job_claim_limited.
select
    queue.name, head.jobs + limited.jobs, head.suspects + limited.suspects,
    least(oldest.due_at, limited.due_at)
from unnest(%(queues)s::text[]) as queue (name)
-- the first jobs in the order of claiming; suspects pile up there, since they wait to be alone
cross join lateral (
    select count(*) as jobs, count(*) filter (where lost_count >= 2) as suspects
    from (
        select lost_count from durable_job
        where state = 'READY' and limit_name is null and queue_name = queue.name
        order by priority desc, due_at, id
        limit %(limit)s
    ) as first
) as head
cross join lateral (
    select
        count(*) as jobs, count(*) filter (where lost_count >= 2) as suspects,
        min(due_at) as due_at
    from (
        select lost_count, due_at from durable_job
        where state = 'READY' and limit_name is not null and queue_name = queue.name
        limit %(limit)s
    ) as first
) as limited
-- within a priority the index is in order of age
cross join lateral (
    select min(first.due_at) as due_at
    from generate_series(-100, 100) as level (priority)
    cross join lateral (
        select due_at from durable_job as job
        where state = 'READY' and limit_name is null and queue_name = queue.name
            and job.priority = level.priority
        order by due_at
        limit 1
    ) as first
) as oldest
where head.jobs + limited.jobs > 0
