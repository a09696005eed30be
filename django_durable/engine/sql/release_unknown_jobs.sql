-- Does:    gives back jobs that are running under this worker's name without its knowing, since
--          the answer to the COMMIT of their claim was lost.
-- Takes:   worker_id; job_ids and lease_tokens of the claims it knows.
-- Returns: a row for each: id.
-- Locks:   the job rows for no key update, by id; the worker's row is held alone by now.
-- Index:   job_running.
with unknown as (
    select id from durable_job
    where worker_id = %(worker_id)s::bigint and state = 'RUNNING'
        and (id, lease_token) not in (
            select * from unnest(%(job_ids)s::uuid[], %(lease_tokens)s::bigint[])
        )
    order by id
    for no key update
)
update durable_job as job set state = 'READY', worker_id = null
from unknown
where job.id = unknown.id
returning job.id
