-- Does:    asks whether a claim ended its job well.
-- Takes:   job_id, lease_token.
-- Returns: one row, or none.
-- Locks:   nothing.
-- Index:   durable_job_pkey.
select 1 from durable_job
where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'SUCCESSFUL'
