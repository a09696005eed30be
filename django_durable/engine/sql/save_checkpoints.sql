-- Does:    saves checkpoints, each fenced by its job's lease, in one commit.
-- Takes:   arrays with an element for each checkpoint; no identity twice.
-- Returns: a row for each checkpoint: index (from 1); held: the lease is good; saved: the row was
--          written, else a final one stands there; cancelled: cancelling was asked for.
-- Locks:   the job rows for share to commit, by id, so none commits after its job was taken over.
-- Index:   durable_job_pkey, durable_checkpoint_pkey.
with
wanted as materialized (
    select * from unnest(
        %(job_ids)s::uuid[], %(lease_tokens)s::bigint[], %(identities)s::text[], %(seqs)s::int[],
        %(kinds)s::text[], %(states)s::text[], %(functions)s::text[], %(fingerprints)s::text[],
        %(attempts)s::int[], %(values)s::text[], %(errors)s::text[],
        %(compensations)s::text[], %(elapseds)s::interval[]
    ) with ordinality as row (
        job_id, lease_token, identity, seq, kind, state, function, fingerprint, attempt, value,
        error, compensation, elapsed, index
    )
),
-- the leases that are good, held so until commit
lease as (
    select job.id, job.lease_token, job.cancel_requested_at is not null as cancelled
    from durable_job as job
    where job.state = 'RUNNING'
        and (job.id, job.lease_token) in (select job_id, lease_token from wanted)
    order by job.id
    for share of job
),
-- new rows, the ends of steps that were STARTED or RETRYING, and steps that were undone and run
-- anew; a final row stays as it is
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
        compensation, lease_token, started_at, saved_at
    )
    select
        job_id, identity, seq, kind, state, function, fingerprint, attempt, value::json,
        error::json, compensation::json, wanted.lease_token, statement_timestamp() - elapsed,
        statement_timestamp()
    from wanted
    join lease on lease.id = wanted.job_id and lease.lease_token = wanted.lease_token
    order by job_id, identity
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
    returning job_id, identity
)
select
    wanted.index, lease.id is not null as held, saved.job_id is not null as saved,
    coalesce(lease.cancelled, false) as cancelled
from wanted
left join lease on lease.id = wanted.job_id and lease.lease_token = wanted.lease_token
left join saved on saved.job_id = wanted.job_id and saved.identity = wanted.identity
