-- Does:    writes on a job, just inserted in this transaction, which tick it was enqueued for.
-- Takes:   job_id, schedule_name, tick_at.
-- Returns: nothing.
-- Locks:   the job's row, which nobody else can see yet.
-- Index:   durable_job_pkey.
update durable_job
set schedule_name = %(schedule_name)s::text, tick_at = %(tick_at)s::timestamptz
where id = %(job_id)s::uuid and lease_token = 0 and schedule_name is null
