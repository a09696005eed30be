-- Does:    finds workers that look dead: their lease expired, or their advisory lock is free.
-- Takes:   own_id; namespace: the first key of the locks.
-- Returns: a row for each: id, heartbeat_at, expired. Nobody while the server is younger than the
--          worker's lease: after a restart every lock and lease looks dead.
-- Locks:   nothing.
-- Index:   durable_worker, a handful of rows; pg_locks.
select
    worker.id, worker.heartbeat_at, worker.lease_expires_at < statement_timestamp() as expired
from durable_worker as worker
where worker.lost_at is null and worker.stopped_at is null and worker.id <> %(own_id)s::bigint
    and pg_postmaster_start_time() < statement_timestamp() - worker.lease
    and (
        worker.lease_expires_at < statement_timestamp()
        or (
            worker.has_lock
            and not exists (
                select from pg_locks
                where locktype = 'advisory' and objsubid = 2 and granted
                    and database = (select oid from pg_database where datname = current_database())
                    and classid::bigint = %(namespace)s::bigint and objid::bigint = worker.id
            )
        )
    )
