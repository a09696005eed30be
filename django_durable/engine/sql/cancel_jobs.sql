-- Does:    cancels jobs: one that does not run ends at once, a running one is asked to stop.
-- Takes:   ids, locked by this transaction already.
-- Returns: a row for each job it applied to: id.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey.
update durable_job set
    state = case when state = 'RUNNING' then 'RUNNING' else 'CANCELLED' end,
    cancel_requested_at = coalesce(cancel_requested_at, statement_timestamp()),
    finished_at = case when state <> 'RUNNING' then statement_timestamp() end,
    wait_kind = null,
    wait_reason = null
where id = any (%(ids)s::uuid[]) and state not in ('SUCCESSFUL', 'FAILED', 'CANCELLED')
returning id
