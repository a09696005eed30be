-- Does:    forgets that children are to be cancelled, of parents that ended and have no such child
--          left alive. Nobody starts a child for a parent that has ended.
-- Takes:   limit.
-- Returns: nothing; the count says how many.
-- Locks:   the parents' rows for no key update, skip locked, by id.
-- Index:   job_cancels_children, job_live_children.
with done as (
    select id from durable_job as parent
    where cancels_children and finished_at is not null
        and not exists (
            select from durable_job as child
            where child.parent_id = parent.id and child.finished_at is null
                and (parent.cancel_requested_at is not null or child.on_parent_end = 'cancel')
        )
    order by id
    limit %(limit)s
    for no key update skip locked
)
update durable_job as job set cancels_children = false
from done
where job.id = done.id and job.finished_at is not null
