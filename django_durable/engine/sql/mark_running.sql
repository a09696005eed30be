-- Does:    makes claimed jobs running, under a token one higher than ever before. One that was unique
--          while it was queued is so no more.
-- Takes:   ids, locked by this transaction already; aheads: those of them for which there is no free
--          slot yet, so that they do not begin now; worker_id; code_version.
-- Returns: a row for each: id, lease_token, claimed_at, started_at, claimed_ahead, unique_key.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey.
update durable_job set
    state = 'RUNNING',
    worker_id = %(worker_id)s::bigint,
    lease_token = lease_token + 1,
    code_version = %(code_version)s::text,
    claimed_at = statement_timestamp(),
    started_at = case
        when id = any (%(aheads)s::uuid[]) then started_at
        else coalesce(started_at, statement_timestamp())
    end,
    claimed_ahead = id = any (%(aheads)s::uuid[]),
    unique_key = case when unique_while = 'queued' then null else unique_key end
where id = any (%(ids)s::uuid[])
returning id, lease_token, claimed_at, started_at, claimed_ahead, unique_key
