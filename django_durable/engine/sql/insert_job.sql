-- Does:    enqueues one job from outside jobs, and wakes a worker of its queue at commit.
-- Takes:   the job's columns; run_after or delay (null: due at once); notify: whether to wake.
-- Returns: one row: state, due_at, enqueued_at, deadline_at, the server process, and the
--          notification's void.
-- Locks:   nothing that exists.
-- Index:   none read but durable_worker, a handful of rows.
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, run_after, arguments,
    lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps,
    subject_type, subject_key, context, deadline_at, enqueued_at,
    limit_name, limit_key
)
values (
    %(id)s::uuid, %(task_path)s::text, %(queue_name)s::text, %(priority)s::smallint,
    case
        when coalesce(%(run_after)s::timestamptz, statement_timestamp() + %(delay)s::interval)
            > statement_timestamp() then 'SCHEDULED'
        else 'READY'
    end,
    greatest(
        statement_timestamp(),
        coalesce(%(run_after)s::timestamptz, statement_timestamp() + %(delay)s::interval)
    ),
    %(run_after)s::timestamptz, %(arguments)s::json,
    0, 1, 0, 0, 0, '{}',
    %(subject_type)s::text, %(subject_key)s::text, %(context)s::json,
    least(%(deadline_at)s::timestamptz, statement_timestamp() + %(deadline)s::interval),
    statement_timestamp(), %(limit_name)s::text, %(limit_key)s::text
)
returning
    state, due_at, enqueued_at, deadline_at, pg_backend_pid(),
    -- a notification only if somebody listens who would not look anyway: notifying commits queue up
    case when %(notify)s::boolean and state = 'READY' and exists (
        select from durable_worker
        where lost_at is null and stopped_at is null and not backlogged
            and (queues = '{}' or queue_name = any (queues))
    ) then pg_notify('durable', queue_name) end
