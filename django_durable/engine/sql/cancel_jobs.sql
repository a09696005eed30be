-- Does:    cancels jobs. One that does not run ends at once, unless a step of it can be undone: then
--          it becomes ready, to undo that and end. A running one is asked to stop. What is undoing
--          its steps already ends as it has decided.
-- Takes:   ids, locked by this transaction already; follows: only those that their parents' end is
--          to end; notify: whether to wake, but for quiet_queues.
-- Returns: a row for each job it applied to: id, state, parent_id, awaited_as, and the number of
--          queues woken.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey, durable_checkpoint_pkey, job_live_children.
with
found as (
    select
        id, state, ends_as is not null as is_ending,
        lease_token > 0 and state <> 'RUNNING' and exists (
            select from durable_checkpoint as done
            where done.job_id = job.id and done.state = 'SUCCESSFUL'
                and done.compensation is not null
        ) as undoes,
        lease_token > 0 and exists (
            select from durable_job as child
            where child.parent_id = job.id and child.finished_at is null
        ) as has_children
    from durable_job as job
    where id = any (%(ids)s::uuid[]) and state not in ('SUCCESSFUL', 'FAILED', 'CANCELLED')
        and (
            not %(follows)s::boolean
            or exists (
                select from durable_job as parent
                where parent.id = job.parent_id and parent.cancels_children
                    and (
                        parent.cancel_requested_at is not null
                        or (parent.finished_at is not null and job.on_parent_end = 'cancel')
                    )
            )
        )
),
-- one that is undoing its steps already goes on with that, and ends as it has decided
decided as (
    select
        id,
        case
            when state = 'RUNNING' or is_ending then state
            when undoes then 'READY'
            else 'CANCELLED'
        end as state,
        state = 'RUNNING' or undoes or has_children as may_have_children
    from found
),
changed as (
    update durable_job as job set
        state = decided.state,
        due_at = case
            when decided.state <> job.state and decided.state = 'READY' then statement_timestamp()
            else job.due_at
        end,
        cancel_requested_at = coalesce(job.cancel_requested_at, statement_timestamp()),
        cancels_children = job.cancels_children or decided.may_have_children,
        finished_at = case when decided.state = 'CANCELLED' then statement_timestamp() end,
        ends_as = case when decided.state <> 'CANCELLED' then job.ends_as end,
        wait_kind = case when decided.state = job.state then job.wait_kind end,
        wait_key = case when decided.state = job.state then job.wait_key end,
        wait_reason = case when decided.state = job.state then job.wait_reason end,
        wait_deadline_at = case when decided.state = job.state then job.wait_deadline_at end,
        waiting_since = case when decided.state = job.state then job.waiting_since end
    from decided
    where job.id = decided.id
    returning job.id, job.state, job.parent_id, job.awaited_as, job.queue_name
),
woken as (
    select pg_notify('durable', queue_name)
    from (select distinct queue_name from changed where state = 'READY') as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select id, state, parent_id, awaited_as, (select count(*) from woken) from changed
