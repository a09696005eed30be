-- Does:    makes claimed jobs running, under a token one higher than ever before.
-- Takes:   ids, locked by this transaction already; worker_id; code_version.
-- Returns: a row for each: id, lease_token, claimed_at, started_at.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey.
update durable_job set
    state = 'RUNNING',
    worker_id = %(worker_id)s::bigint,
    lease_token = lease_token + 1,
    code_version = %(code_version)s::text,
    claimed_at = statement_timestamp(),
    started_at = coalesce(started_at, statement_timestamp())
where id = any (%(ids)s::uuid[])
returning id, lease_token, claimed_at, started_at
