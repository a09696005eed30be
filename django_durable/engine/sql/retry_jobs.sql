-- Does:    makes failed, cancelled and blocked jobs ready again, from the step that ended them. A
--          child of a map that is not over takes its turn among its siblings.
-- Takes:   ids, locked by this transaction already; rerun_interrupted: also forget interrupted
--          at-most-once steps and compensations; allowed_steps: names that may run without a
--          checkpoint; notify: whether to wake, but for quiet_queues.
-- Returns: a row for each job it applied to: id, whether it had ended (rather than been blocked),
--          parent_id, awaited_as, and the number of queues woken.
-- Locks:   the job rows, held already; the checkpoints it removes or hastens.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
fit as (
    select
        id, state in ('FAILED', 'CANCELLED') as ended,
        state in ('FAILED', 'CANCELLED') and awaited_as is not null and origin <> awaited_as
        and exists (
            select from durable_job as parent
            where parent.id = job.parent_id and parent.finished_at is null
        )
        and not exists (
            select from durable_checkpoint as taken
            where taken.job_id = job.parent_id and taken.identity = job.awaited_as
                and taken.state in ('SUCCESSFUL', 'FAILED')
        ) as held_back
    from durable_job as job
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
            when starts_with(failed.identity, 'compensation@')
                then %(rerun_interrupted)s::boolean and (
                    failed.state = 'STARTED' or failed.error ->> 'interrupted' = 'yes'
                )
            when failed.error ->> 'interrupted' = 'yes'
                or (failed.state = 'STARTED' and failed.kind = 'at_most_once')
                then %(rerun_interrupted)s::boolean
            else failed.state = 'FAILED'
        end
        and not exists (
            select from durable_checkpoint as later
            cross join lateral (
                select
                    case failed.kind when 'child' then failed.fingerprint
                        else regexp_replace(failed.identity, '[^/]+$', '') end as failed_scope,
                    case later.kind when 'child' then later.fingerprint
                        else regexp_replace(later.identity, '[^/]+$', '') end as later_scope
            ) as scopes
            where not starts_with(failed.identity, 'compensation@')
                and later.job_id = failed.job_id and later.seq > failed.seq
                and not starts_with(later.identity, 'compensation@')
                -- their places part at a call: in one scope, or around it. At a branch's number they
                -- are side by side, and neither comes after the other
                and (
                    select min(i)
                    from generate_subscripts(string_to_array(failed_scope || '*', '/'), 1) as i
                    where (string_to_array(failed_scope || '*', '/'))[i]
                        is distinct from (string_to_array(later_scope || '+', '/'))[i]
                ) %% 2 = case when failed_scope ~ '^continued[0-9]+/' then 0 else 1 end
        )
),
-- a step that was to be tried again later is tried at once
hastened as (
    update durable_checkpoint as failed set next_attempt_at = statement_timestamp()
    from fit
    where failed.job_id = fit.id and failed.state = 'RETRYING'
        and failed.next_attempt_at > statement_timestamp()
),
changed as (
    update durable_job as job set
        state = case when fit.held_back then 'WAITING' else 'READY' end,
        due_at = case
            when fit.held_back then timestamptz '9999-01-01 00:00+00'
            else statement_timestamp()
        end,
        attempt_base = case when fit.ended then job.attempt else job.attempt_base end,
        attempt = job.attempt + case when fit.ended then 1 else 0 end,
        lost_count = 0,
        blocked_count = 0,
        allowed_steps = job.allowed_steps || %(allowed_steps)s::text[],
        cancel_requested_at = case when not fit.ended then job.cancel_requested_at end,
        cancels_children = job.cancels_children and not fit.ended,
        ends_as = case when not fit.ended then job.ends_as end,
        -- one that is over would end the job again before it began
        deadline_at = case
            when not fit.ended or job.deadline_at > statement_timestamp() then job.deadline_at
        end,
        finished_at = null,
        -- somebody may have it by now: whoever retries looks, and gives it back
        unique_key = case
            when not fit.ended or job.unique_while = 'period' then job.unique_key
        end,
        wait_kind = case when fit.held_back then 'limit' end,
        wait_key = null,
        wait_reason = case when fit.held_back then 'its turn among its siblings' end,
        wait_deadline_at = null,
        waiting_since = case when fit.held_back then statement_timestamp() end
    from fit
    where job.id = fit.id
    returning job.id, fit.ended, job.parent_id, job.awaited_as, job.queue_name, job.state
),
woken as (
    select pg_notify('durable', queue_name)
    from (select distinct queue_name from changed where state = 'READY') as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select id, ended, parent_id, awaited_as, (select count(*) from woken) from changed
