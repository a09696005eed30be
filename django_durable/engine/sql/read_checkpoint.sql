-- Does:    reads what stands under an identity, to adopt it.
-- Takes:   job_id, identity.
-- Returns: one row, or none: it is gone, since the lease was lost meanwhile.
-- Locks:   nothing.
-- Index:   durable_checkpoint_pkey.
select
    identity, seq, kind, state, lease_token, fingerprint, attempt, value::text, error::text,
    started_at, saved_at, next_attempt_at, wait_key, compensation::text
from durable_checkpoint
where job_id = %(job_id)s::uuid and identity = %(identity)s::text
