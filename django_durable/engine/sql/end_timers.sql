-- Does:    lets a sleeping or scheduled job go on at once: its timers are over, and so are the pauses
--          before the next tries of its steps.
-- Takes:   job_id, locked by this transaction already; notify, quiet_queues.
-- Returns: one row if the job was made ready: its id, and the notification's void.
-- Locks:   the job's row, held already; its STARTED and RETRYING checkpoints.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
ended as (
    update durable_checkpoint set next_attempt_at = statement_timestamp()
    where job_id = %(job_id)s::uuid
        and ((state = 'STARTED' and kind = 'sleep') or state = 'RETRYING')
        and next_attempt_at > statement_timestamp()
    returning identity
)
update durable_job set
    state = 'READY',
    due_at = statement_timestamp(),
    wait_kind = null,
    wait_key = null,
    wait_reason = null,
    waiting_since = null,
    wait_deadline_at = null
where id = %(job_id)s::uuid
    and (state = 'SCHEDULED' or (state = 'WAITING' and exists (select from ended)))
returning
    id,
    case when %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
        then pg_notify('durable', queue_name) end
