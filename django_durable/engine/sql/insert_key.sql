-- Does:    takes an idempotency key for once(); waits for a caller who is inside right now.
-- Takes:   scope, key, fingerprint, retention.
-- Returns: one row with the new id, or none: the key is taken.
-- Locks:   waits for an uncommitted equal key; the new row to commit.
-- Index:   idempotencykey_once.
insert into durable_idempotencykey (scope, key, fingerprint, created_at, expires_at)
values (
    %(scope)s::text, %(key)s::text, %(fingerprint)s::text,
    statement_timestamp(), statement_timestamp() + %(retention)s::interval
)
on conflict (scope, key) do nothing
returning id
