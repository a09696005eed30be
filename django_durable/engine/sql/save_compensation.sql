-- Does:    saves that a step is undone, and marks the step so, in one commit under the job's lease.
-- Takes:   the columns of the compensation's checkpoint, which is SUCCESSFUL; elapsed since its try
--          began; undoes: the identity of the step.
-- Returns: one row: held: the lease is good; saved: the row was written, else a final one stands
--          there; cancelled: cancelling was asked for.
-- Locks:   the job's row for share to commit, then the two checkpoints.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
lease as (
    select id, cancel_requested_at is not null as cancelled from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
        lease_token, started_at, saved_at
    )
    select
        lease.id, %(identity)s::text, %(seq)s::int, %(kind)s::text, %(state)s::text,
        %(function)s::text, %(fingerprint)s::text, %(attempt)s::int, %(value)s::json,
        %(error)s::json, %(lease_token)s::bigint,
        statement_timestamp() - %(elapsed)s::interval, statement_timestamp()
    from lease
    on conflict (job_id, identity) do update set
        state = excluded.state, attempt = excluded.attempt, value = excluded.value,
        error = excluded.error, lease_token = excluded.lease_token, next_attempt_at = null,
        saved_at = excluded.saved_at
    where old.state in ('STARTED', 'RETRYING')
    returning job_id
),
marked as (
    update durable_checkpoint as step set state = 'COMPENSATED'
    from saved
    where step.job_id = saved.job_id and step.identity = %(undoes)s::text
        and step.state = 'SUCCESSFUL'
)
select
    exists (select from lease) as held, exists (select from saved) as saved,
    coalesce((select cancelled from lease), false) as cancelled
