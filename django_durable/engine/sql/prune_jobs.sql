-- Does:    looks at one chunk of the jobs that finished long enough ago, and deletes those that are
--          needed no more, with all that belongs to them.
-- Takes:   state; retention: an interval since finished_at; queue: only of that one, or null, and
--          then of all but other_queues; after_time, after_id: where the chunk before ended, or the
--          beginning of time; limit: how many jobs to look at, deleted or not.
-- Returns: one row: how many were looked at, how many deleted; finished_at and id of the last looked
--          at. Spared: a job whose idempotency key lives, or whose period of uniqueness does; one whose
--          parent may run again, which must then find it; and one with live children, whose turns
--          and ends are settled with it.
-- Locks:   the job rows for update, skip locked; finished ones only.
-- Index:   job_finished, idempotencykey_job, durable_job_pkey, durable_checkpoint_pkey.
with
seen as materialized (
    select id, finished_at, queue_name from durable_job
    where state = %(state)s::text
        and finished_at < statement_timestamp() - %(retention)s::interval
        and finished_at >= %(after_time)s::timestamptz
        and (finished_at, id) > (%(after_time)s::timestamptz, %(after_id)s::uuid)
    order by finished_at, id
    limit %(limit)s
),
doomed as (
    select job.id from durable_job as job
    where job.id in (
        select id from seen
        where case
            when %(queue)s::text is null then queue_name <> all (%(other_queues)s::text[])
            else queue_name = %(queue)s::text
        end
    )
        and job.state = %(state)s::text
        and job.finished_at < statement_timestamp() - %(retention)s::interval
        and not exists (
            select from durable_idempotencykey as k
            where k.job_id = job.id and k.expires_at > statement_timestamp()
        )
        and (job.unique_key is null or coalesce(job.unique_until <= statement_timestamp(), true))
        and not exists (
            select from durable_job as parent
            where parent.id = job.parent_id and parent.state <> 'SUCCESSFUL'
        )
        and not exists (
            select from durable_job as child
            where child.parent_id = job.id and child.finished_at is null
        )
    for update of job skip locked
),
checkpoints as (
    delete from durable_checkpoint using doomed where durable_checkpoint.job_id = doomed.id
),
mailboxes as (
    delete from durable_mailbox using doomed where durable_mailbox.job_id = doomed.id
),
messages as (
    delete from durable_message using doomed where durable_message.job_id = doomed.id
),
approvals as (
    delete from durable_approval using doomed where durable_approval.job_id = doomed.id
),
progress as (
    delete from durable_progress using doomed where durable_progress.job_id = doomed.id
),
published as (
    delete from durable_jobvalue using doomed where durable_jobvalue.job_id = doomed.id
),
attempts as (
    delete from durable_attempt using doomed where durable_attempt.job_id = doomed.id
),
keys as (
    delete from durable_idempotencykey using doomed where durable_idempotencykey.job_id = doomed.id
),
pruned as (
    delete from durable_job using doomed where durable_job.id = doomed.id
    returning durable_job.id
)
select
    (select count(*) from seen),
    (select count(*) from pruned),
    (select finished_at from seen order by finished_at desc, id desc limit 1),
    (select id from seen order by finished_at desc, id desc limit 1)
