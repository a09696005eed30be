-- Does:    frees the unique key of a job whose period is over.
-- Takes:   job_id, unique_key.
-- Returns: nothing; the count is 0 if another caller was first.
-- Locks:   the job's row for no key update. An atomic step of it under way is waited for.
-- Index:   durable_job_pkey.
update durable_job set unique_key = null
where id = %(job_id)s::uuid and unique_key = %(unique_key)s::text
    and unique_while = 'period' and unique_until <= statement_timestamp()
