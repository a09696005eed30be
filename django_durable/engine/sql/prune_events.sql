-- Does:    deletes one chunk of broadcast events that were emitted, or never were, long enough ago.
-- Takes:   retention: an interval since then; limit.
-- Returns: nothing; the count says how many. Spared: an event that some job waits for.
-- Locks:   the event rows for update, skip locked.
-- Index:   event_created, checkpoint_waiting.
with doomed as (
    select key from durable_event as event
    where created_at < statement_timestamp() - %(retention)s::interval
        and (emitted_at is null or emitted_at < statement_timestamp() - %(retention)s::interval)
        and not exists (
            select from durable_checkpoint as wait
            where wait.wait_key = 'event/' || event.key and wait.state = 'STARTED'
        )
    order by created_at
    limit %(limit)s
    for update skip locked
)
delete from durable_event using doomed where durable_event.key = doomed.key
