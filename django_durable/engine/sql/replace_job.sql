-- Does:    lets a job that has not started stand for a newer call of its task, and wakes its queue.
--          It stays the child of whoever enqueued it, but ends with that one only if it said so again.
-- Takes:   job_id, unique_key; parent_id: who calls now; what is new: on_parent_end, queue_name, priority, run_after, delay, arguments,
--          subject_type, subject_key, context, limit_name, limit_key, deadline_at, deadline; notify.
-- Returns: one row: the id, and the notification's void. No row: it was claimed, ended, or freed.
-- Locks:   the job's row for no key update; decided under that lock.
-- Index:   durable_job_pkey.
update durable_job set
    state = case
        when coalesce(%(run_after)s::timestamptz, statement_timestamp() + %(delay)s::interval)
            > statement_timestamp() then 'SCHEDULED'
        else 'READY'
    end,
    due_at = greatest(
        statement_timestamp(),
        coalesce(%(run_after)s::timestamptz, statement_timestamp() + %(delay)s::interval)
    ),
    run_after = %(run_after)s::timestamptz,
    queue_name = %(queue_name)s::text,
    priority = %(priority)s::smallint,
    arguments = %(arguments)s::json,
    subject_type = %(subject_type)s::text,
    subject_key = %(subject_key)s::text,
    context = %(context)s::json,
    limit_name = %(limit_name)s::text,
    limit_key = %(limit_key)s::text,
    on_parent_end = case when parent_id = %(parent_id)s::uuid then %(on_parent_end)s::text end,
    deadline_at = least(
        %(deadline_at)s::timestamptz, statement_timestamp() + %(deadline)s::interval
    )
where id = %(job_id)s::uuid and unique_key = %(unique_key)s::text
    and lease_token = 0 and state in ('READY', 'SCHEDULED')
returning
    id,
    case when %(notify)s::boolean and state = 'READY' and exists (
        select from durable_worker
        where lost_at is null and stopped_at is null and not backlogged
            and (queues = '{}' or queue_name = any (queues))
    ) then pg_notify('durable', queue_name) end
