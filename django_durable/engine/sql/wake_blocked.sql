-- Does:    makes blocked jobs ready that another version of the code could not replay.
-- Takes:   code_version: the one that is starting now.
-- Returns: nothing; the count says how many.
-- Locks:   job rows for no key update, skip locked.
-- Index:   job_due (the few WAITING rows).
with blocked as (
    select id from durable_job
    where state in ('SCHEDULED', 'WAITING') and wait_kind = 'blocked'
        and code_version is distinct from %(code_version)s::text
    order by id
    for no key update skip locked
)
update durable_job as job set
    state = 'READY', due_at = statement_timestamp(), wait_kind = null, wait_reason = null
from blocked
where job.id = blocked.id
