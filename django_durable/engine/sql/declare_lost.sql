-- Does:    declares a worker lost, if nothing was heard of it since it looked dead.
-- Takes:   worker_id; heartbeat_at as it was seen.
-- Returns: one row, or none: it is alive after all, or somebody else is at it.
-- Locks:   the worker's row for update, skip locked: a claim under way comes first.
-- Index:   durable_worker_pkey.
with suspect as (
    select id from durable_worker
    where id = %(worker_id)s::bigint and lost_at is null and stopped_at is null
        and heartbeat_at = %(heartbeat_at)s::timestamptz
    for update skip locked
)
update durable_worker as worker set lost_at = statement_timestamp(), has_lock = false
from suspect
where worker.id = suspect.id
returning worker.hostname, worker.pid
