-- Does:    looks up a taken idempotency key, and whether it may be used anew.
-- Takes:   scope, key.
-- Returns: no row (it is free), or one: fingerprint, job_id, value as text, and expired: past its
--          time and its job, if any, finished or gone.
-- Locks:   nothing.
-- Index:   idempotencykey_once, durable_job_pkey.
select
    k.fingerprint, k.job_id, k.value::text,
    k.expires_at <= statement_timestamp() and (j.id is null or j.finished_at is not null)
from durable_idempotencykey as k
left join durable_job as j on j.id = k.job_id
where k.scope = %(scope)s::text and k.key = %(key)s::text
