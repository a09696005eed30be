-- Does:    extends a worker's lease, and says which of its jobs are to be cancelled.
-- Takes:   worker_id; has_lock, backlogged: what is true of it now.
-- Returns: one row: whether it is still counted alive, and the ids to cancel.
-- Locks:   the worker's row for no key update: claims pass.
-- Index:   durable_worker_pkey, job_running.
with beat as (
    update durable_worker set
        heartbeat_at = statement_timestamp(),
        lease_expires_at = statement_timestamp() + lease,
        has_lock = %(has_lock)s::boolean,
        backlogged = %(backlogged)s::boolean
    where id = %(worker_id)s::bigint and lost_at is null
    returning id
)
select
    exists (select from beat),
    array(
        select id from durable_job
        where worker_id = %(worker_id)s::bigint and state = 'RUNNING'
            and cancel_requested_at is not null
    )
