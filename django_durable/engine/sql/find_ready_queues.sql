-- Does:    lists the queues that have ready jobs, by skipping from queue to queue through the indexes.
-- Takes:   nothing.
-- Returns: a row for each: queue_name.
-- Locks:   nothing.
-- Index:   job_claim and job_claim_limited, one entry for each queue.
with recursive
queue as (
    (
        select queue_name from durable_job
        where state = 'READY' and limit_name is null
        order by queue_name
        limit 1
    )
    union all
    select (
        select job.queue_name from durable_job as job
        where job.state = 'READY' and limit_name is null and job.queue_name > queue.queue_name
        order by job.queue_name limit 1
    )
    from queue
    where queue.queue_name is not null
),
limited as (
    (
        select queue_name from durable_job
        where state = 'READY' and limit_name is not null
        order by queue_name
        limit 1
    )
    union all
    select (
        select job.queue_name from durable_job as job
        where job.state = 'READY' and limit_name is not null and job.queue_name > limited.queue_name
        order by job.queue_name limit 1
    )
    from limited
    where limited.queue_name is not null
)
select queue_name from queue where queue_name is not null
union
select queue_name from limited where queue_name is not null
order by queue_name
