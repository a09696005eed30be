-- Does:    enqueues one job under an idempotency key, if the key is free.
-- Takes:   the job's columns as insert_job; scope, key, fingerprint, retention; parent_id, origin
--          and lease_token as insert_jobs.
-- Returns: one row: state, due_at, enqueued_at, deadline_at, server process, void; no row: the key
--          is taken, or the lease is lost. (An existing origin is a unique violation: look for it first.)
-- Locks:   waits for an uncommitted equal key; the parent's row for share.
-- Index:   idempotencykey_once, durable_job_pkey.
with
lease as (
    select id from durable_job
    where id = %(parent_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
named as (
    insert into durable_idempotencykey (scope, key, fingerprint, job_id, created_at, expires_at)
    select
        %(scope)s::text, %(key)s::text, %(fingerprint)s::text, %(id)s::uuid,
        statement_timestamp(), statement_timestamp() + %(retention)s::interval
    where %(lease_token)s::bigint is null or exists (select from lease)
    on conflict (scope, key) do nothing
    returning job_id
)
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, run_after, arguments,
    lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps,
    parent_id, origin, awaited_as, on_parent_end, depth, subject_type, subject_key, context,
    deadline_at, enqueued_at, limit_name, limit_key
)
select
    named.job_id, %(task_path)s::text, %(queue_name)s::text, %(priority)s::smallint,
    case when due.at > statement_timestamp() then 'SCHEDULED' else 'READY' end,
    due.at, %(run_after)s::timestamptz, %(arguments)s::json,
    0, 1, 0, 0, 0, '{}', %(parent_id)s::uuid, %(origin)s::text, %(awaited_as)s::text,
    %(on_parent_end)s::text, %(depth)s::smallint, %(subject_type)s::text, %(subject_key)s::text,
    %(context)s::json,
    least(%(deadline_at)s::timestamptz, statement_timestamp() + %(deadline)s::interval),
    statement_timestamp(), %(limit_name)s::text, %(limit_key)s::text
from named, (
    select greatest(
        statement_timestamp(),
        coalesce(%(run_after)s::timestamptz, statement_timestamp() + %(delay)s::interval)
    ) as at
) as due
returning
    state, due_at, enqueued_at, deadline_at, pg_backend_pid(),
    case when %(notify)s::boolean and state = 'READY' and exists (
        select from durable_worker
        where lost_at is null and stopped_at is null and not backlogged
            and (queues = '{}' or queue_name = any (queues))
    ) then pg_notify('durable', queue_name) end
