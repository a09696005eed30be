-- Does:    ends jobs SUCCESSFUL that nobody waits for, each fenced by its lease.
-- Takes:   arrays with an element for each job, in the order of their ids.
-- Returns: a row for each that counted: index (from 1). Missing: the lease is lost, or cancelling was
--          asked for, or there are steps to undo; finish_jobs tells them apart.
-- Locks:   the job rows for no key update, in the order given: by key, one after the other.
-- Index:   durable_job_pkey, job_live_children.
update durable_job as job set
    state = 'SUCCESSFUL',
    return_value = wanted.return_value::json,
    worker_id = null,
    lost_count = 0,
    wait_reason = null,
    waiting_since = null,
    blocked_count = 0,
    cancels_children = job.cancels_children or exists (
        select from durable_job as child
        where child.parent_id = job.id and child.on_parent_end = 'cancel'
            and child.finished_at is null
    ),
    started_at = coalesce(job.started_at, job.claimed_at),
    finished_at = statement_timestamp()
from unnest(%(job_ids)s::uuid[], %(lease_tokens)s::bigint[], %(return_values)s::text[])
    with ordinality as wanted (job_id, lease_token, return_value, index)
where job.id = wanted.job_id and job.lease_token = wanted.lease_token and job.state = 'RUNNING'
    and job.cancel_requested_at is null and job.ends_as is null
returning wanted.index
