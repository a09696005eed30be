-- Does:    locks broadcast events before a job is suspended for them, so that none is emitted
--          between its look and its suspension. Rows that do not exist yet are made.
-- Takes:   keys.
-- Returns: a row for each: key.
-- Locks:   the event rows, by key, to commit: who emits one waits.
-- Index:   durable_event_pkey.
insert into durable_event as old (key, created_at)
select key, statement_timestamp() from unnest(%(keys)s::text[]) as wanted (key)
order by key
on conflict (key) do update set created_at = old.created_at
returning key
