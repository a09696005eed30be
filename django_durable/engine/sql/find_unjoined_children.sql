-- Does:    finds what a parent that runs again must not find failed: failed and cancelled children
--          of its start() and map_task() whose outcome it has not taken for good.
-- Takes:   parent_ids, retried by this transaction already.
-- Returns: the id of each.
-- Locks:   nothing; verbs on such children lock their parents, which are held.
-- Index:   job_awaited, durable_checkpoint_pkey, checkpoint_waiting.
select child.id
from durable_job as child
where child.parent_id = any (%(parent_ids)s::uuid[])
    and child.awaited_as is not null
    and child.state in ('FAILED', 'CANCELLED')
    and not exists (
        select from durable_checkpoint as taken
        where taken.job_id = child.parent_id and taken.identity = child.awaited_as
            and taken.state in ('SUCCESSFUL', 'FAILED') and taken.kind = 'map'
    )
    and not exists (
        select from durable_checkpoint as taken
        where taken.wait_key = 'children/' || child.parent_id || '/' || child.awaited_as
            and taken.job_id = child.parent_id and taken.state in ('SUCCESSFUL', 'FAILED')
    )
