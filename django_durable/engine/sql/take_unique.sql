-- Does:    gives a retried job its unique key again, if no other job holds it.
-- Takes:   job_id, locked by this transaction already; unique_key.
-- Returns: nothing; the count is 0 if the key is taken. Taken by a transaction that was still open
--          when this looked: a unique violation.
-- Locks:   the job's row, held already; waits for an uncommitted equal key.
-- Index:   durable_job_pkey, job_unique_once.
update durable_job set unique_key = %(unique_key)s::text
where id = %(job_id)s::uuid and not exists (
    select from durable_job as other
    where other.unique_key = %(unique_key)s::text
        and (
            other.unique_while = 'period'
            or (other.unique_while = 'unfinished' and other.finished_at is null)
            or (
                other.unique_while = 'queued' and other.lease_token = 0
                and other.finished_at is null
            )
        )
)
