-- Does:    makes failed, cancelled and blocked jobs ready again, from the step that ended them.
-- Takes:   ids; rerun_interrupted: also forget interrupted at-most-once steps; allowed_steps:
--          names that may run without a checkpoint; notify, quiet_queues.
-- Returns: a row for each job found: id, task_path, state before, wait_kind before, changed.
-- Locks:   the job rows for no key update, by id; the decision is made under that lock.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
held as (
    select
        id, state, wait_kind, queue_name,
        state in ('FAILED', 'CANCELLED') as ended,
        state in ('FAILED', 'CANCELLED') or (state = 'WAITING' and wait_kind = 'blocked') as fit
    from durable_job
    where id = any (%(ids)s::uuid[])
    order by id
    for no key update
),
removed as (
    delete from durable_checkpoint as failed
    using held
    where held.ended and failed.job_id = held.id and failed.state = 'FAILED'
        and (coalesce(failed.error ->> 'interrupted', '') = '' or %(rerun_interrupted)s::boolean)
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
        attempt_base = case when held.ended then job.attempt else job.attempt_base end,
        attempt = job.attempt + case when held.ended then 1 else 0 end,
        lost_count = 0,
        blocked_count = 0,
        allowed_steps = job.allowed_steps || %(allowed_steps)s::text[],
        cancel_requested_at = null,
        finished_at = null,
        wait_kind = null,
        wait_reason = null
    from held
    where job.id = held.id and held.fit
    returning job.id, job.queue_name
),
woken as (
    select pg_notify('durable', queue_name) from (select distinct queue_name from changed) as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select
    held.id, job.task_path, held.state, held.wait_kind, changed.id is not null,
    (select count(*) from woken)
from held
join durable_job as job on job.id = held.id
left join changed on changed.id = held.id
