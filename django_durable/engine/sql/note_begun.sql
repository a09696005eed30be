-- Does:    notes of running jobs that were claimed ahead that they have begun.
-- Takes:   job_ids and lease_tokens.
-- Returns: a row for each: id.
-- Locks:   the job rows for no key update, skip locked: it is done again.
-- Index:   durable_job_pkey.
with begun as (
    select id from durable_job
    where (id, lease_token) in (
            select * from unnest(%(job_ids)s::uuid[], %(lease_tokens)s::bigint[])
        )
        and state = 'RUNNING' and claimed_ahead
    order by id
    for no key update skip locked
)
update durable_job as job set
    claimed_ahead = false, started_at = coalesce(job.started_at, job.claimed_at)
from begun
where job.id = begun.id
returning job.id
