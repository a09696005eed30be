-- Does:    reads a broadcast event that was emitted, as the value of the wait for it.
-- Takes:   key.
-- Returns: one row: value; none: not emitted.
-- Locks:   nothing.
-- Index:   durable_event_pkey.
select json_build_object('payload', payload, 'sent_at', emitted_at)::text from durable_event
where key = %(key)s::text and emitted_at is not null
