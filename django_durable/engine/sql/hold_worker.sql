-- Does:    makes sure, until commit, that a worker is not declared lost while it claims, and reads
--          what holds jobs of the queues back that it asks.
-- Takes:   worker_id; queues: their names.
-- Returns: one row, or none: it was declared lost. Arrays: the queues that are paused; those that
--          have limits and ready jobs; [queue, limit] wherever jobs under a limit are ready. And in
--          how many seconds the first pause ends by itself; the server process; and the time.
-- Locks:   the worker's row for key share: heartbeats pass, a declaration waits.
-- Index:   durable_worker_pkey, durable_queue_pkey; job_claim and job_claim_limited, one entry for
--          each queue with a limit and each limit with ready jobs.
select
    array(
        select name from durable_queue
        where name = any (%(queues)s::text[]) and paused_at is not null
            and (resume_at is null or resume_at > statement_timestamp())
    ),
    array(
        select name from durable_queue as queue
        where name = any (%(queues)s::text[]) and (concurrency is not null or rate is not null)
            and (
                -- the order makes it a look into the index, however many rows lie around
                (
                    select id from durable_job
                    where state = 'READY' and limit_name is null and queue_name = queue.name
                    order by priority desc, due_at, id
                    limit 1
                ) is not null
                or (
                    select limit_name from durable_job
                    where state = 'READY' and limit_name is not null and queue_name = queue.name
                    order by limit_name
                    limit 1
                ) is not null
            )
    ),
    array(
        select array[queue.name, ready.limit_name]
        from unnest(%(queues)s::text[]) as queue (name)
        cross join lateral (
            with recursive ready as (
                (
                    select limit_name from durable_job
                    where state = 'READY' and limit_name is not null and queue_name = queue.name
                    order by limit_name
                    limit 1
                )
                union all
                select (
                    select job.limit_name from durable_job as job
                    where job.state = 'READY' and job.queue_name = queue.name
                        and job.limit_name > ready.limit_name
                    order by job.limit_name
                    limit 1
                )
                from ready
                where ready.limit_name is not null
            )
            select limit_name from ready where limit_name is not null
        ) as ready
    ),
    (
        select extract(epoch from min(resume_at) - statement_timestamp())::float8
        from durable_queue
        where name = any (%(queues)s::text[]) and resume_at > statement_timestamp()
    ),
    pg_backend_pid(), statement_timestamp()
from durable_worker
where id = %(worker_id)s::bigint and lost_at is null
for key share
