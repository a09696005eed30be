-- Does:    counts jobs that are not ready, by state and queue, reading a bounded number of rows.
-- Takes:   finals: the final states to count; limit: how many rows to read of the delayed, the
--          running, and each final state: the next due, and the last finished.
-- Returns: a row for each state and queue: state, queue_name, jobs, blocked, suspects, and whether
--          the reading ended before the limit, so that the counts are exact.
-- Locks:   nothing.
-- Index:   job_due, job_running, job_finished.
with
scanned as (
    (
        select 'delayed' as scan, state, queue_name, wait_kind, lost_count from durable_job
        where state in ('SCHEDULED', 'WAITING')
        order by due_at
        limit %(limit)s
    )
    union all
    (
        select 'running', state, queue_name, wait_kind, lost_count from durable_job
        where worker_id is not null
        limit %(limit)s
    )
    union all
    select ended.* from unnest(%(finals)s::text[]) as final (state)
    cross join lateral (
        select final.state, job.state, queue_name, wait_kind, lost_count from durable_job as job
        where job.state = final.state and finished_at is not null
        order by finished_at desc
        limit %(limit)s
    ) as ended
)
select
    state, queue_name, count(*), count(*) filter (where wait_kind = 'blocked'),
    count(*) filter (where lost_count >= 2 and state = 'RUNNING'),
    sum(count(*)) over (partition by scan) < %(limit)s
from scanned
group by scan, state, queue_name
