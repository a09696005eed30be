-- Does:    makes failed, cancelled and blocked jobs ready again, from the step that ended them.
-- Takes:   ids, locked by this transaction already; rerun_interrupted: also forget interrupted
--          at-most-once steps; allowed_steps: names that may run without a checkpoint; notify:
--          whether to wake, but for quiet_queues.
-- Returns: a row for each job it applied to: id, and the number of queues woken.
-- Locks:   the job rows, held already; the checkpoints it removes.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
fit as (
    select id, state in ('FAILED', 'CANCELLED') as ended from durable_job
    where id = any (%(ids)s::uuid[])
        and (
            state in ('FAILED', 'CANCELLED')
            or (state = 'WAITING' and wait_kind = 'blocked')
        )
),
removed as (
    delete from durable_checkpoint as failed
    using fit
    where fit.ended and failed.job_id = fit.id
        and case
            when failed.state = 'STARTED' or failed.error ->> 'interrupted' = 'yes'
                then %(rerun_interrupted)s::boolean
            else failed.state = 'FAILED'
        end
        and not exists (
            select from durable_checkpoint as later
            where later.job_id = failed.job_id and later.seq > failed.seq
                and regexp_replace(later.identity, '[^/]+$', '')
                    = regexp_replace(failed.identity, '[^/]+$', '')
        )
),
changed as (
    update durable_job as job set
        state = 'READY',
        due_at = statement_timestamp(),
        attempt_base = case when fit.ended then job.attempt else job.attempt_base end,
        attempt = job.attempt + case when fit.ended then 1 else 0 end,
        lost_count = 0,
        blocked_count = 0,
        allowed_steps = job.allowed_steps || %(allowed_steps)s::text[],
        cancel_requested_at = null,
        finished_at = null,
        wait_kind = null,
        wait_reason = null
    from fit
    where job.id = fit.id
    returning job.id, job.queue_name
),
woken as (
    select pg_notify('durable', queue_name) from (select distinct queue_name from changed) as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select id, (select count(*) from woken) from changed
