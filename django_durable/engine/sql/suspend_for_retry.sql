-- Does:    records a step's failed try and suspends its job until the next one, in one commit.
-- Takes:   job_id, lease_token; the checkpoint's columns; delay until the next try; reason.
-- Returns: one row (state, due_at), or none: the lease is lost, or this is done already.
-- Locks:   the job's row for no key update.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
held as (
    select
        id, cancel_requested_at is not null as cancelled,
        statement_timestamp() + %(delay)s::interval as due_at
    from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for no key update
),
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, error, lease_token,
        started_at, next_attempt_at, saved_at
    )
    select
        id, %(identity)s::text, %(seq)s::int, %(kind)s::text, 'RETRYING', %(function)s::text,
        %(fingerprint)s::text, %(attempt)s::int, %(error)s::json, %(lease_token)s::bigint,
        statement_timestamp() - %(elapsed)s::interval, due_at, statement_timestamp()
    from held
    on conflict (job_id, identity) do update set
        state = excluded.state, attempt = excluded.attempt, error = excluded.error,
        lease_token = excluded.lease_token, next_attempt_at = excluded.next_attempt_at,
        saved_at = excluded.saved_at
    where old.state in ('STARTED', 'RETRYING')
),
noted as (
    insert into durable_attempt (
        job_id, attempt, outcome, lease_token, worker_id, code_version, error, claimed_at, ended_at
    )
    select
        job.id, job.attempt, 'STEP_RETRYING', job.lease_token, job.worker_id, job.code_version,
        %(error)s::json, job.claimed_at, statement_timestamp()
    from durable_job as job join held on held.id = job.id
)
update durable_job as job set
    state = case
        when held.cancelled then 'CANCELLED'
        when held.due_at > statement_timestamp() then 'SCHEDULED'
        else 'READY'
    end,
    finished_at = case when held.cancelled then statement_timestamp() end,
    due_at = held.due_at,
    worker_id = null,
    wait_reason = case when not held.cancelled then %(reason)s::text end,
    lost_count = 0
from held
where job.id = held.id
returning job.state, job.due_at
