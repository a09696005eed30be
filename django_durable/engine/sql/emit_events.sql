-- Does:    emits broadcast events; the first write wins.
-- Takes:   keys and payloads, an element of each for each event; no key twice.
-- Returns: a row for each that was emitted now: key.
-- Locks:   the event rows, by key, to commit: jobs that begin to wait for them wait.
-- Index:   durable_event_pkey.
insert into durable_event as old (key, payload, emitted_at, created_at)
select key, payload::json, statement_timestamp(), statement_timestamp()
from unnest(%(keys)s::text[], %(payloads)s::text[]) as wanted (key, payload)
order by key
on conflict (key) do update set payload = excluded.payload, emitted_at = excluded.emitted_at
where old.emitted_at is null
returning key
