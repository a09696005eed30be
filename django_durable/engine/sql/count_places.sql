-- Does:    tells how many more jobs of a queue may start now under the queue's own limits.
-- Takes:   queues: their names, whose rows this claim holds, if it goes by the answer.
-- Returns: a row for each that has limits: name; room, which may be negative; whether there is a
--          rate; seconds until the first of the starts within its period is out of it, null if none.
-- Locks:   nothing. What runs is counted in this statement, after the rows were locked.
-- Index:   durable_queue_pkey, job_running (all that runs), limitstart_latest.
select
    queue.name,
    least(
        queue.concurrency - (
            select count(*) from durable_job
            where worker_id is not null and queue_name = queue.name
        ),
        queue.rate - started.jobs
    ),
    queue.rate is not null,
    extract(epoch from started.earliest + queue.period - statement_timestamp())::float8
from durable_queue as queue
cross join lateral (
    select coalesce(sum(jobs), 0) as jobs, min(started_at) as earliest from durable_limitstart
    where scope = 'queue/' || queue.name and limit_key = ''
        and started_at > statement_timestamp() - queue.period
) as started
where queue.name = any (%(queues)s::text[])
    and (queue.concurrency is not null or queue.rate is not null)
