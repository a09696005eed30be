-- Does:    decides how a job ends, before its steps are undone. From then on it ends so, whatever is
--          asked; an earlier decision stands.
-- Takes:   job_id, lease_token; state: FAILED or CANCELLED; error (null: none).
-- Returns: one row: the end, which is CANCELLED if cancelling was asked for before. No row: the lease
--          is lost.
-- Locks:   the job's row for no key update.
-- Index:   durable_job_pkey.
update durable_job set
    ends_as = coalesce(
        ends_as, case when cancel_requested_at is null then %(state)s::text else 'CANCELLED' end
    ),
    error = case when ends_as is null then coalesce(%(error)s::json, error) else error end
where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
returning ends_as
