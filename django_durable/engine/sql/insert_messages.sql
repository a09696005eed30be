-- Does:    puts events into the mailboxes of jobs, locked by this transaction already.
-- Takes:   arrays with an element for each message: job_id, name, payload, idempotency_key.
-- Returns: a row for each that is new: id.
-- Locks:   waits for an uncommitted equal key.
-- Index:   message_once.
insert into durable_message (job_id, name, payload, idempotency_key, sent_at)
select job_id, name, payload::json, idempotency_key, statement_timestamp()
from unnest(
    %(job_ids)s::uuid[], %(names)s::text[], %(payloads)s::text[], %(idempotency_keys)s::text[]
) with ordinality as wanted (job_id, name, payload, idempotency_key, index)
order by index
on conflict (job_id, idempotency_key) where idempotency_key is not null do nothing
returning id
