-- Does:    enqueues any number of jobs, from outside or inside a job, and wakes each queue once.
-- Takes:   arrays with an element for each job; parent_id and lease_token of the enqueueing job
--          (both null outside jobs, lease_token null inside an atomic step, whose commit is fenced).
-- Returns: a row for each job inserted: id, state, due_at, enqueued_at, and the notification's
--          void. Jobs missing from it: their origin exists already, or the lease is lost.
-- Locks:   the parent's row for share to commit; nothing else that exists.
-- Index:   durable_job_pkey, job_origin_once.
with
-- the enqueueing job, if it still holds its lease
lease as (
    select id from durable_job
    where id = %(parent_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
-- the jobs to insert, with the time each is due
wanted as (
    select job.*, greatest(
        statement_timestamp(), coalesce(job.run_after, statement_timestamp() + job.delay)
    ) as due_at
    from unnest(
        %(ids)s::uuid[], %(task_paths)s::text[], %(queue_names)s::text[],
        %(priorities)s::smallint[], %(run_afters)s::timestamptz[], %(delays)s::interval[],
        %(arguments)s::text[], %(origins)s::text[], %(subject_types)s::text[],
        %(subject_keys)s::text[]
    ) as job (
        id, task_path, queue_name, priority, run_after, delay, arguments, origin, subject_type,
        subject_key
    )
    where %(lease_token)s::bigint is null or exists (select from lease)
),
inserted as (
    insert into durable_job (
        id, task_path, queue_name, priority, state, due_at, run_after, arguments,
        lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps,
        parent_id, origin, subject_type, subject_key, enqueued_at
    )
    select
        id, task_path, queue_name, priority,
        case when due_at > statement_timestamp() then 'SCHEDULED' else 'READY' end,
        due_at, run_after, arguments::json, 0, 1, 0, 0, 0, '{}',
        %(parent_id)s::uuid, origin, subject_type, subject_key, statement_timestamp()
    from wanted
    on conflict (parent_id, origin) where origin is not null do nothing
    returning id, state, due_at, enqueued_at, queue_name
),
-- each queue in which somebody listens who would not look anyway
woken as (
    select pg_notify('durable', queue_name)
    from (select distinct queue_name from inserted where state = 'READY') as queue
    where queue_name = any (%(notify_queues)s::text[]) and exists (
        select from durable_worker
        where lost_at is null and stopped_at is null and not backlogged
            and (queues = '{}' or queue.queue_name = any (queues))
    )
)
select id, state, due_at, enqueued_at, (select count(*) from woken) from inserted
