-- Does:    makes claimed jobs running, under a token one higher than ever before. One that was unique
--          while it was queued is so no more.
-- Takes:   ids, locked by this transaction already; aheads, those of them for which no slot is
--          free yet; worker_id; code_version; claimed_at, or null for now.
-- Returns: one row: when they were claimed.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey.
with marked as (
    update durable_job set
        state = 'RUNNING',
        worker_id = %(worker_id)s::bigint,
        lease_token = lease_token + 1,
        code_version = %(code_version)s::text,
        claimed_at = coalesce(%(claimed_at)s::timestamptz, statement_timestamp()),
        claimed_ahead = id = any (%(aheads)s::uuid[]),
        started_at = case when id = any (%(aheads)s::uuid[]) then started_at
            else coalesce(started_at, %(claimed_at)s::timestamptz, statement_timestamp()) end
    where id = any (%(ids)s::uuid[])
)
select statement_timestamp()
