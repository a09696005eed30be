-- Does:    takes a worker's advisory lock for this session, in the form with two keys.
-- Takes:   namespace, worker_id.
-- Returns: one row: whether it was free, or held by this session already.
-- Locks:   the advisory lock, until the session ends: with its process, if not before.
-- Index:   none.
select pg_try_advisory_lock(%(namespace)s::int, %(worker_id)s::int)
