-- Does:    records what a job waits for and suspends it, in one commit: the failed tries of steps
--          that are tried again, and waits. A wait's deadline is the one of its first suspension.
-- Takes:   job_id, lease_token; arrays with an element for each checkpoint: its columns, STARTED for
--          a wait and RETRYING for a step; until or timeout (null: no end); wait_key; kind and
--          reason for people; again: look again after so long at the latest (null: no need to).
-- Returns: one row: whether cancelling was asked for, and then it is not suspended, unless it undoes
--          its steps already; state; due_at. No row: the lease is lost, or this is done already.
-- Locks:   the job's row for no key update, after those of the events it waits for.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
held as (
    select id, cancel_requested_at is not null and ends_as is null as cancelled from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for no key update
),
wanted as materialized (
    select * from unnest(
        %(identities)s::text[], %(seqs)s::int[], %(kinds)s::text[], %(states)s::text[],
        %(functions)s::text[], %(fingerprints)s::text[], %(attempts)s::int[], %(values)s::text[],
        %(errors)s::text[], %(elapseds)s::interval[], %(wait_keys)s::text[],
        %(untils)s::timestamptz[], %(timeouts)s::interval[]
    ) as row (
        identity, seq, kind, state, function, fingerprint, attempt, value, error, elapsed,
        wait_key, until, timeout
    )
),
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
        lease_token, wait_key, started_at, next_attempt_at, saved_at
    )
    select
        held.id, identity, seq, wanted.kind, state, function, fingerprint, attempt, value::json,
        error::json, %(lease_token)s::bigint, wait_key, statement_timestamp() - elapsed,
        coalesce(until, statement_timestamp() + timeout), statement_timestamp()
    from held cross join wanted
    order by identity
    on conflict (job_id, identity) do update set
        seq = excluded.seq, kind = excluded.kind, state = excluded.state,
        function = excluded.function, fingerprint = excluded.fingerprint,
        attempt = excluded.attempt, error = excluded.error,
        value = case when old.state = 'COMPENSATED' then excluded.value else old.value end,
        compensation = null,
        started_at = case
            when old.state = 'COMPENSATED' then excluded.started_at else old.started_at
        end,
        lease_token = excluded.lease_token, wait_key = excluded.wait_key,
        next_attempt_at = case
            when old.state = 'STARTED' and excluded.state = 'STARTED' and old.kind <> 'condition'
                then old.next_attempt_at
            else excluded.next_attempt_at
        end,
        saved_at = excluded.saved_at
    where old.state in ('STARTED', 'RETRYING', 'COMPENSATED')
    returning state, started_at, next_attempt_at
),
noted as (
    insert into durable_attempt (
        job_id, attempt, outcome, lease_token, worker_id, code_version, error, claimed_at, ended_at
    )
    select
        job.id, job.attempt, 'STEP_RETRYING', job.lease_token, job.worker_id, job.code_version,
        wanted.error::json, job.claimed_at, statement_timestamp()
    from durable_job as job join held on held.id = job.id cross join wanted
    where wanted.state = 'RETRYING'
        -- not once more, if the job was woken before it is tried again
        and not exists (
            select from durable_checkpoint as known
            where known.job_id = job.id and known.identity = wanted.identity
                and known.state = 'RETRYING' and known.attempt = wanted.attempt
        )
),
-- what all of it comes to; a final row in the way means that one of the waits is over
plan as (
    select
        count(*) filter (where state = 'STARTED') > 0 as has_waits,
        count(*) < (select count(*) from wanted) as is_over,
        min(started_at) filter (where state = 'STARTED') as waiting_since,
        min(next_attempt_at) filter (where state = 'STARTED') as wait_deadline_at,
        -- a deadline that is behind us could not be written yet: that, too, is looked at again later
        least(
            min(next_attempt_at) filter (
                where %(again)s::interval is null or next_attempt_at > statement_timestamp()
            ),
            statement_timestamp() + %(again)s::interval, timestamptz '9999-01-01 00:00+00'
        ) as due_at
    from saved
),
suspended as (
    update durable_job as job set
        state = case
            when plan.is_over or plan.due_at <= statement_timestamp() then 'READY'
            when plan.has_waits then 'WAITING'
            else 'SCHEDULED'
        end,
        due_at = case when plan.is_over then statement_timestamp() else plan.due_at end,
        worker_id = null,
        started_at = coalesce(job.started_at, job.claimed_at),
        lost_count = 0,
        blocked_count = 0,
        wait_kind = case
            when plan.has_waits and not plan.is_over and plan.due_at > statement_timestamp()
                then %(kind)s::text
        end,
        wait_key = case
            when plan.has_waits and not plan.is_over and plan.due_at > statement_timestamp()
                then %(wait_key)s::text
        end,
        wait_reason = %(reason)s::text,
        waiting_since = plan.waiting_since,
        wait_deadline_at = plan.wait_deadline_at
    from held, plan
    where job.id = held.id and not held.cancelled
    returning job.state, job.due_at
)
select
    held.cancelled, coalesce(suspended.state, 'RUNNING'),
    coalesce(suspended.due_at, statement_timestamp())
from held left join suspended on true
