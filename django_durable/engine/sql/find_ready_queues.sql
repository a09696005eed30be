-- Does:    finds the names of queues with ready jobs, by skipping through the index.
-- Takes:   nothing.
-- Returns: a row for each: queue_name.
-- Locks:   nothing.
-- Index:   job_claim, one entry for each queue.
with recursive queue as (
    (select queue_name from durable_job where state = 'READY' and limit_name is null order by queue_name limit 1)
    union all
    select (
        select job.queue_name from durable_job as job
        where job.state = 'READY' and limit_name is null and job.queue_name > queue.queue_name
        order by job.queue_name limit 1
    )
    from queue
    where queue.queue_name is not null
)
select queue_name from queue where queue_name is not null
