-- Does:    makes scheduled and waiting jobs ready whose time has come, and wakes their queues.
-- Takes:   limit; notify: whether to wake, but for quiet_queues.
-- Returns: one row: how many. (What a job waits for stands in its STARTED checkpoints.)
-- Locks:   job rows for no key update, skip locked, by due time.
-- Index:   job_due.
with
due as (
    select id from durable_job
    where state in ('SCHEDULED', 'WAITING') and due_at <= statement_timestamp()
    order by due_at
    limit %(limit)s
    for no key update skip locked
),
promoted as (
    update durable_job as job set
        state = 'READY', wait_kind = null, wait_key = null, wait_reason = null,
        waiting_since = null, wait_deadline_at = null
    from due
    where job.id = due.id
    returning job.queue_name
),
woken as (
    select pg_notify('durable', queue_name)
    from (select distinct queue_name from promoted) as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select (select count(*) from promoted), (select count(*) from woken)
