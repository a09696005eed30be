-- Does:    cancels jobs: one that does not run ends at once, a running one is asked to stop.
-- Takes:   ids.
-- Returns: a row for each job found: id, task_path, its state before and after.
-- Locks:   the job rows for no key update, by id; the decision is made under that lock.
-- Index:   durable_job_pkey.
with
held as (
    select id, state from durable_job
    where id = any (%(ids)s::uuid[])
    order by id
    for no key update
),
changed as (
    update durable_job as job set
        state = case when held.state = 'RUNNING' then 'RUNNING' else 'CANCELLED' end,
        cancel_requested_at = coalesce(job.cancel_requested_at, statement_timestamp()),
        finished_at = case when held.state <> 'RUNNING' then statement_timestamp() end,
        wait_kind = null,
        wait_reason = null
    from held
    where job.id = held.id and held.state not in ('SUCCESSFUL', 'FAILED', 'CANCELLED')
    returning job.id, job.state
)
select held.id, job.task_path, held.state, coalesce(changed.state, held.state)
from held
join durable_job as job on job.id = held.id
left join changed on changed.id = held.id
