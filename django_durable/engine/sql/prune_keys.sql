-- Does:    deletes one chunk of expired keys of once().
-- Takes:   limit. (Keys that name a job go with their job.)
-- Returns: nothing; the count says how many.
-- Locks:   the key rows for update, skip locked.
-- Index:   idempotencykey_expires.
with doomed as (
    select id from durable_idempotencykey
    where job_id is null and expires_at < statement_timestamp()
    order by expires_at
    limit %(limit)s
    for update skip locked
)
delete from durable_idempotencykey as k using doomed where k.id = doomed.id
