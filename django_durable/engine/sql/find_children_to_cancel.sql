-- Does:    finds live children that their parents' end is to end: all of a parent that was asked to
--          stop, those started with on_parent_end='cancel' of one that ended otherwise.
-- Takes:   limit.
-- Returns: the id of each, up to the limit; and a null if there is such a parent, whether it has
--          children left to be asked or not.
-- Locks:   nothing.
-- Index:   job_cancels_children, job_live_children.
(
    select child.id
    from durable_job as parent
    cross join lateral (
        select id from durable_job
        where parent_id = parent.id and finished_at is null and cancel_requested_at is null
            and (parent.cancel_requested_at is not null or on_parent_end = 'cancel')
        limit %(limit)s
    ) as child
    where parent.cancels_children
        and (parent.cancel_requested_at is not null or parent.finished_at is not null)
    limit %(limit)s
)
union all
(
    select null from durable_job
    where cancels_children and (cancel_requested_at is not null or finished_at is not null)
    limit 1
)
