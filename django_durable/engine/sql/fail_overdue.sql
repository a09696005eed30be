-- Does:    fails jobs whose deadline has passed while nobody ran them. One with a step that can be
--          undone becomes ready, to undo that and end.
-- Takes:   arrays with an element for each job, locked by this transaction already: id, error;
--          notify: whether to wake, but for quiet_queues.
-- Returns: a row for each job it applied to: id, state, parent_id, awaited_as, and the number of
--          queues woken.
-- Locks:   the job rows, held already.
-- Index:   durable_job_pkey, durable_checkpoint_pkey, job_live_children.
with
wanted as materialized (
    select * from unnest(%(job_ids)s::uuid[], %(errors)s::text[]) as row (job_id, error)
),
overdue as (
    select
        job.id, wanted.error::json as error,
        case
            when job.lease_token > 0 and exists (
                select from durable_checkpoint as done
                where done.job_id = job.id and done.state = 'SUCCESSFUL'
                    and done.compensation is not null
            ) then 'READY'
            else 'FAILED'
        end as state
    from wanted
    join durable_job as job on job.id = wanted.job_id
    where job.state in ('READY', 'SCHEDULED', 'WAITING')
        and job.deadline_at <= statement_timestamp()
        and job.ends_as is null and job.cancel_requested_at is null
),
noted as (
    insert into durable_attempt (
        job_id, attempt, outcome, lease_token, worker_id, code_version, error, claimed_at, ended_at
    )
    select
        job.id, job.attempt, 'FAILED', job.lease_token, null, job.code_version, overdue.error,
        job.claimed_at, statement_timestamp()
    from overdue
    join durable_job as job on job.id = overdue.id
    where overdue.state = 'FAILED'
),
changed as (
    update durable_job as job set
        state = overdue.state,
        due_at = case when overdue.state = 'READY' then statement_timestamp() else job.due_at end,
        error = overdue.error,
        ends_as = case when overdue.state = 'READY' then 'FAILED' end,
        finished_at = case when overdue.state = 'FAILED' then statement_timestamp() end,
        cancels_children = job.cancels_children or (
            overdue.state = 'FAILED' and job.lease_token > 0 and exists (
                select from durable_job as child
                where child.parent_id = job.id and child.on_parent_end = 'cancel'
                    and child.finished_at is null
            )
        ),
        wait_kind = null,
        wait_key = null,
        wait_reason = null,
        wait_deadline_at = null,
        waiting_since = null
    from overdue
    where job.id = overdue.id
    returning job.id, job.state, job.parent_id, job.awaited_as, job.queue_name
),
woken as (
    select pg_notify('durable', queue_name)
    from (select distinct queue_name from changed where state = 'READY') as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select id, state, parent_id, awaited_as, (select count(*) from woken) from changed
