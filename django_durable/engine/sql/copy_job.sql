-- Does:    makes a new job of another's call: a fork, which begins with the other's final checkpoints
--          before a chosen step, and the values published by then; or a restart, which begins with
--          none. Wakes a worker of its queue.
-- Takes:   id of the new job; source_id; from_step: an identity, null for a restart; arguments: null
--          for the stored ones; deadline_at, deadline; notify: whether to wake, but for quiet_queues.
-- Returns: one row: the new id, and the notification's void. No row: there is no such job, no such
--          checkpoint, or one before it is being undone, so that it could not be skipped.
-- Locks:   nothing that exists. All is read in one snapshot, and final checkpoints do not change.
-- Index:   durable_job_pkey, durable_checkpoint_pkey, job_origin_once.
with
source as (
    select * from durable_job where id = %(source_id)s::uuid
),
chosen as (
    select seq, started_at from durable_checkpoint
    where job_id = %(source_id)s::uuid and identity = %(from_step)s::text
        and kind <> 'fork' and not starts_with(identity, 'compensation@')
        and not exists (
            select from durable_checkpoint as undone
            where undone.job_id = %(source_id)s::uuid and undone.seq < durable_checkpoint.seq
                and (
                    undone.state = 'COMPENSATED'
                    or (undone.compensation is not null and (select ends_as from source) is not null)
                )
        )
),
-- token 1 says that there are checkpoints to load; no claim has ever had it
made as (
    insert into durable_job (
        id, task_path, queue_name, priority, state, due_at, arguments, lease_token, attempt,
        attempt_base, lost_count, blocked_count, allowed_steps, continued_count, forked_from_id,
        subject_type, subject_key, context, schedule_name, tick_at, deadline_at, enqueued_at,
        limit_name, limit_key
    )
    select
        %(id)s::uuid, task_path, queue_name, priority, 'READY', statement_timestamp(),
        coalesce(%(arguments)s::json, arguments),
        case when %(from_step)s::text is null then 0 else 1 end, 1, 0, 0, 0,
        case when %(from_step)s::text is null then '{}' else allowed_steps end,
        case when %(from_step)s::text is null then 0 else continued_count end,
        id, subject_type, subject_key, context, schedule_name, tick_at,
        least(%(deadline_at)s::timestamptz, statement_timestamp() + %(deadline)s::interval),
        statement_timestamp(), limit_name, limit_key
    from source
    where %(from_step)s::text is null or exists (select from chosen)
    returning id, queue_name
),
-- under token 0, which no claim has; what was done stays the source's to undo
copied as (
    insert into durable_checkpoint (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
        lease_token, started_at, saved_at
    )
    select
        made.id, done.identity, done.seq, done.kind, done.state, done.function, done.fingerprint,
        done.attempt, done.value, done.error, 0, done.started_at, done.saved_at
    from made, chosen, durable_checkpoint as done
    where done.job_id = %(source_id)s::uuid and done.seq < chosen.seq
        and done.state in ('SUCCESSFUL', 'FAILED') and done.kind <> 'fork'
        and not starts_with(done.identity, 'compensation@')
),
-- what the source had published by then
published as (
    insert into durable_jobvalue (job_id, key, value, saved_at)
    select made.id, said.key, said.value, said.saved_at
    from made, chosen, durable_jobvalue as said
    where said.job_id = %(source_id)s::uuid and said.saved_at < chosen.started_at
),
-- the jobs that the source had enqueued by then between its steps, or was forked with, by origin
enqueued as (
    select origin, id::text as id, enqueued_at, 1 as rank from durable_job as child
    where parent_id = %(source_id)s::uuid and origin is not null
        and not exists (
            select from durable_checkpoint as inside
            where inside.job_id = %(source_id)s::uuid
                and inside.identity = regexp_replace(child.origin, '/[^/]*$', '')
                and inside.identity <> child.origin
        )
    union all
    select entry.key, entry.value ->> 0, (entry.value ->> 1)::timestamptz, 2
    from durable_checkpoint as fork, json_each(fork.value) as entry
    where fork.job_id = %(source_id)s::uuid and fork.kind = 'fork'
),
own as (
    select distinct on (origin) origin, id, enqueued_at
    from enqueued
    where enqueued_at < (select started_at from chosen)
    order by origin, rank
),
noted as (
    insert into durable_checkpoint (
        job_id, identity, seq, kind, state, function, attempt, value, lease_token, started_at,
        saved_at
    )
    select
        made.id, 'fork/' || %(source_id)s::uuid, 0, 'fork', 'SUCCESSFUL', '', 1,
        json_object_agg(own.origin, json_build_array(own.id, own.enqueued_at)), 0,
        statement_timestamp(), statement_timestamp()
    from made, own
    group by made.id
)
select
    id,
    case when %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
        then pg_notify('durable', queue_name) end
from made
