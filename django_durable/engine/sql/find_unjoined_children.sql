-- Does:    finds what a parent that runs again must not find failed: failed and cancelled children
--          of its start() and map_task() whose end it has not recorded.
-- Takes:   parent_ids, retried by this transaction already.
-- Returns: the id of each.
-- Locks:   nothing; verbs on such children lock their parents, which are held.
-- Index:   job_awaited, durable_checkpoint_pkey.
select child.id
from durable_job as child
join durable_job as parent on parent.id = child.parent_id
where child.parent_id = any (%(parent_ids)s::uuid[])
    and child.awaited_as is not null
    and child.state in ('FAILED', 'CANCELLED')
    -- what an earlier life of the parent started is settled, as continue_as() left it
    and (
        parent.continued_count = 0
        or starts_with(child.awaited_as, 'continued' || parent.continued_count || '/')
    )
    and not exists (
        select from durable_checkpoint as recorded
        where recorded.job_id = child.parent_id and recorded.identity = child.awaited_as
            and recorded.state in ('SUCCESSFUL', 'FAILED')
    )
