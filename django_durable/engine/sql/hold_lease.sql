-- Does:    asks whether a claim is still good, and keeps it so.
-- Takes:   job_id, lease_token.
-- Returns: one row, or none: the lease is lost.
-- Locks:   the job's row for share, to commit.
-- Index:   durable_job_pkey.
select 1 from durable_job
where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
for share
