-- Does:    writes the outcomes of attempts, each fenced by its lease: an end, a retry, a block, or
--          the job handed back. A job whose cancelling was asked for ends CANCELLED instead, unless
--          its end was decided before that.
-- Takes:   arrays with an element for each outcome: state SUCCESSFUL, FAILED, CANCELLED, SCHEDULED
--          (a retry, with its delay), WAITING (blocked, with its reason) or READY (handed back);
--          undoes: its steps are to be undone before it may end CANCELLED, so that is not written.
-- Returns: a row for each outcome that counted: index (from 1), state, due_at. Missing: lease lost,
--          or to be cancelled and undone first.
-- Locks:   the job rows for no key update, by id.
-- Index:   durable_job_pkey, durable_checkpoint_pkey, job_live_children.
with
wanted as materialized (
    select * from unnest(
        %(job_ids)s::uuid[], %(lease_tokens)s::bigint[], %(states)s::text[],
        %(return_values)s::text[], %(errors)s::text[], %(delays)s::interval[],
        %(reasons)s::text[], %(undoes)s::boolean[]
    ) with ordinality as row (
        job_id, lease_token, state, return_value, error, delay, reason, undoes, index
    )
),
-- the jobs still held under these leases, and what each becomes
held as (
    select
        job.id, wanted.index, wanted.return_value, wanted.error, wanted.reason,
        case
            when job.cancel_requested_at is not null and job.ends_as is null
                and wanted.state <> 'READY' then 'CANCELLED'
            else wanted.state
        end as state,
        statement_timestamp() + case
            when wanted.state = 'WAITING' then least(
                interval '1 minute' * power(2, least(job.blocked_count, 6)), interval '1 hour'
            )
            else coalesce(wanted.delay, interval '0')
        end as due_at
    from durable_job as job
    join wanted on wanted.job_id = job.id and wanted.lease_token = job.lease_token
    where job.state = 'RUNNING'
        and not (wanted.undoes and job.cancel_requested_at is not null and job.ends_as is null)
    order by job.id
    for no key update of job
),
-- every end that is not good, for people
noted as (
    insert into durable_attempt (
        job_id, attempt, outcome, lease_token, worker_id, code_version, error, claimed_at, ended_at
    )
    select
        job.id, job.attempt,
        case held.state when 'SCHEDULED' then 'RETRYING' when 'WAITING' then 'BLOCKED'
            else held.state end,
        job.lease_token, job.worker_id, job.code_version, held.error::json, job.claimed_at,
        statement_timestamp()
    from durable_job as job
    join held on held.id = job.id
    where held.state in ('FAILED', 'CANCELLED', 'SCHEDULED', 'WAITING')
),
-- a retry runs the step again that ended the attempt: failed, and nothing came after it in its
-- scope, in branches of it, or in the scopes around it
removed as (
    delete from durable_checkpoint as failed
    using held
    where held.state = 'SCHEDULED' and failed.job_id = held.id and failed.state = 'FAILED'
        and not starts_with(failed.identity, 'compensation@')
        and failed.error ->> 'interrupted' is distinct from 'yes'
        and not exists (
            select from durable_checkpoint as later
            cross join lateral (
                select
                    case failed.kind when 'child' then failed.fingerprint
                        else regexp_replace(failed.identity, '[^/]+$', '') end as failed_scope,
                    case later.kind when 'child' then later.fingerprint
                        else regexp_replace(later.identity, '[^/]+$', '') end as later_scope
            ) as scopes
            where later.job_id = failed.job_id and later.seq > failed.seq
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
)
update durable_job as job set
    state = case
        when held.state = 'SCHEDULED' and held.due_at <= statement_timestamp() then 'READY'
        else held.state
    end,
    due_at = case when held.state in ('SCHEDULED', 'WAITING') then held.due_at else job.due_at end,
    attempt = job.attempt + case when held.state = 'SCHEDULED' then 1 else 0 end,
    return_value = case when held.state = 'SUCCESSFUL' then held.return_value::json end,
    error = coalesce(held.error::json, job.error),
    worker_id = null,
    started_at = case when held.state = 'READY' then job.started_at
        else coalesce(job.started_at, job.claimed_at) end,
    lost_count = case when held.state = 'READY' then job.lost_count else 0 end,
    wait_kind = case when held.state = 'WAITING' then 'blocked' end,
    wait_reason = case when held.state in ('WAITING', 'SCHEDULED') then held.reason end,
    waiting_since = case when held.state = 'WAITING' then statement_timestamp() end,
    blocked_count = case when held.state = 'WAITING' then job.blocked_count + 1 else 0 end,
    ends_as = case
        when held.state not in ('SUCCESSFUL', 'FAILED', 'CANCELLED') then job.ends_as
    end,
    cancels_children = job.cancels_children or (
        held.state in ('SUCCESSFUL', 'FAILED', 'CANCELLED') and exists (
            select from durable_job as child
            where child.parent_id = job.id and child.on_parent_end = 'cancel'
                and child.finished_at is null
        )
    ),
    finished_at = case
        when held.state in ('SUCCESSFUL', 'FAILED', 'CANCELLED') then statement_timestamp()
    end
from held
where job.id = held.id
returning held.index, job.state, job.due_at
