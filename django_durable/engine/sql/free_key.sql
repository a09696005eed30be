-- Does:    frees an expired key, if it still names what was seen.
-- Takes:   scope, key, and the job_id it was seen to name (null for once()).
-- Returns: nothing; the count is 0 if another caller was first.
-- Locks:   the key's row, to commit.
-- Index:   idempotencykey_once.
delete from durable_idempotencykey
where scope = %(scope)s::text and key = %(key)s::text
    and job_id is not distinct from %(job_id)s::uuid and expires_at <= statement_timestamp()
