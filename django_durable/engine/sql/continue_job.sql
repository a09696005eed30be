-- Does:    starts a job over in place: other arguments, an empty history, ready now.
-- Takes:   job_id, lease_token; arguments; notify: whether to wake, but for quiet_queues.
-- Returns: one row: whether cancelling was asked for, and then nothing is changed; due_at; void.
--          No row: the lease is lost, or this is done already.
-- Locks:   the job's row for no key update; the checkpoints and the taken messages it removes.
-- Index:   durable_job_pkey, durable_checkpoint_pkey, message_job.
with
held as (
    select id, cancel_requested_at is not null as cancelled from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for no key update
),
removed as (
    delete from durable_checkpoint as old using held
    where old.job_id = held.id and not held.cancelled
),
-- a keyed one stays for as long as a key usually answers, so that a repeated send is still known
read as (
    delete from durable_message as message using held
    where message.job_id = held.id and message.taken_as is not null and not held.cancelled
        and (
            message.idempotency_key is null
            or message.sent_at < statement_timestamp() - interval '7 days'
        )
),
-- attempts count anew, and so does the time since the first began
continued as (
    update durable_job as job set
        state = 'READY',
        due_at = statement_timestamp(),
        arguments = %(arguments)s::json,
        continued_count = job.continued_count + 1,
        attempt_base = job.attempt - 1,
        started_at = null,
        worker_id = null,
        lost_count = 0,
        blocked_count = 0,
        allowed_steps = '{}',
        wait_reason = null,
        waiting_since = null,
        wait_deadline_at = null
    from held
    where job.id = held.id and not held.cancelled
    returning job.queue_name, job.due_at
)
select
    held.cancelled, coalesce(continued.due_at, statement_timestamp()),
    case when %(notify)s::boolean and continued.queue_name <> all (%(quiet_queues)s::text[])
        then pg_notify('durable', continued.queue_name) end
from held left join continued on true
