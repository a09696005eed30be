-- Does:    saves one checkpoint under its job's lease, or fails: for a COMMIT that travels with it.
-- Takes:   the checkpoint's columns; elapsed since its try began.
-- Returns: one row: whether cancelling was asked for. Division by zero, and the transaction is at
--          its end, if the lease is lost or a final row stands there.
-- Locks:   the job's row for share to commit, so none commits after its job was taken over.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with lease as (
    select id, cancel_requested_at is not null as cancelled
    from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
        compensation, lease_token, started_at, saved_at
    )
    select
        lease.id, %(identity)s::text, %(seq)s::int, %(kind)s::text, %(state)s::text,
        %(function)s::text, %(fingerprint)s::text, %(attempt)s::int, %(value)s::json,
        %(error)s::json, %(compensation)s::json, %(lease_token)s::bigint,
        statement_timestamp() - %(elapsed)s::interval, statement_timestamp()
    from lease
    on conflict (job_id, identity) do update set
        seq = excluded.seq, kind = excluded.kind, state = excluded.state,
        function = excluded.function, fingerprint = excluded.fingerprint,
        attempt = excluded.attempt, value = excluded.value, error = excluded.error,
        compensation = excluded.compensation,
        lease_token = excluded.lease_token, next_attempt_at = null, wait_key = null,
        started_at = case
            when old.state = 'COMPENSATED' then excluded.started_at else old.started_at
        end,
        saved_at = excluded.saved_at
    where old.state in ('STARTED', 'RETRYING', 'COMPENSATED')
    returning job_id
)
select (select cancelled from lease), 1 / (select count(*) from saved)
