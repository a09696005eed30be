-- Does:    makes sure, until commit, that a worker is not declared lost while it claims.
-- Takes:   worker_id.
-- Returns: one row, or none: it was declared lost.
-- Locks:   the worker's row for key share: heartbeats pass, a declaration waits.
-- Index:   durable_worker_pkey.
select 1 from durable_worker
where id = %(worker_id)s::bigint and lost_at is null
for key share
