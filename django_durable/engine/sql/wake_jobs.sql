-- Does:    makes waiting jobs ready, and wakes their queues. A wake-up is a hint: the job looks again.
-- Takes:   ids, locked by this transaction already; notify: whether to wake, but for quiet_queues.
-- Returns: one row: how many became ready.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey.
with
woken as (
    update durable_job as job set
        state = 'READY',
        due_at = statement_timestamp(),
        wait_kind = null,
        wait_key = null,
        wait_reason = null,
        waiting_since = null,
        wait_deadline_at = null
    where id = any (%(ids)s::uuid[]) and state = 'WAITING' and wait_kind not in ('blocked', 'limit')
    returning queue_name
),
notified as (
    select pg_notify('durable', queue_name) from (select distinct queue_name from woken) as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select (select count(*) from woken), (select count(*) from notified)
