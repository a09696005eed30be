-- Does:    enqueues any number of jobs, from outside or inside a job, and wakes each queue once.
-- Takes:   arrays with an element for each job; parent_id and lease_token of the enqueueing job
--          (both null outside jobs, lease_token null inside an atomic step, whose commit is fenced).
-- Returns: a row for each job inserted: id, state, due_at, enqueued_at, deadline_at, unique_until,
--          and the notification's void. Jobs missing from it: their origin or unique key exists
--          already, or the lease is lost.
-- Locks:   the parent's row for share to commit; waits for an uncommitted equal unique key.
-- Index:   durable_job_pkey, job_origin_once, job_unique_once.
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
        %(subject_keys)s::text[], %(contexts)s::text[], %(deadlines_at)s::timestamptz[],
        %(deadlines)s::interval[], %(awaited_ases)s::text[], %(on_parent_ends)s::text[],
        %(depths)s::smallint[], %(held_backs)s::boolean[], %(limit_names)s::text[],
        %(limit_keys)s::text[], %(unique_keys)s::text[], %(unique_whiles)s::text[],
        %(unique_periods)s::interval[]
    ) as job (
        id, task_path, queue_name, priority, run_after, delay, arguments, origin, subject_type,
        subject_key, context, deadline_at, deadline, awaited_as, on_parent_end, depth, held_back,
        limit_name, limit_key, unique_key, unique_while, unique_period
    )
    where %(lease_token)s::bigint is null or exists (select from lease)
),
inserted as (
    insert into durable_job (
        id, task_path, queue_name, priority, state, due_at, run_after, arguments,
        lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps,
        parent_id, origin, awaited_as, on_parent_end, depth, subject_type, subject_key, context,
        deadline_at, unique_key, unique_while, unique_until, wait_kind, wait_reason, waiting_since,
        enqueued_at, limit_name, limit_key
    )
    select
        id, task_path, queue_name, priority,
        case
            when held_back then 'WAITING'
            when due_at > statement_timestamp() then 'SCHEDULED'
            else 'READY'
        end,
        case when held_back then timestamptz '9999-01-01 00:00+00' else due_at end,
        run_after, arguments::json, 0, 1, 0, 0, 0, '{}',
        %(parent_id)s::uuid, origin, awaited_as, on_parent_end, depth, subject_type, subject_key,
        context::json,
        least(deadline_at, statement_timestamp() + deadline),
        unique_key, unique_while, statement_timestamp() + unique_period,
        case when held_back then 'limit' end,
        case when held_back then 'its turn among its siblings' end,
        case when held_back then statement_timestamp() end,
        statement_timestamp(), limit_name, limit_key
    from wanted
    on conflict do nothing
    returning id, state, due_at, enqueued_at, deadline_at, unique_until, queue_name
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
select
    id, state, due_at, enqueued_at, deadline_at, unique_until, (select count(*) from woken)
from inserted
