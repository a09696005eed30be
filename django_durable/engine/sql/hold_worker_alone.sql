-- Does:    waits for a claim of this worker that may still be in flight.
-- Takes:   worker_id.
-- Returns: one row, or none: the row is gone.
-- Locks:   the worker's row for update, to commit.
-- Index:   durable_worker_pkey.
select 1 from durable_worker where id = %(worker_id)s::bigint for update
