-- Does:    gives back the running jobs of workers that are lost, ended or gone.
-- Takes:   limit; notify: whether to wake, but for quiet_queues.
-- Returns: a row for each: id, task_path, worker_id, lost_count, and the notification's void. No
--          attempt is spent; lost_count grows unless the worker was told to stop, or the job was
--          claimed ahead and is not known to have begun, and starts again if the run had saved a
--          checkpoint. Poison and cancelling are left to the next claim.
-- Locks:   job rows for no key update, skip locked, by id; repeated until none is left.
-- Index:   job_running, durable_worker_pkey, durable_checkpoint_pkey.
with
-- seen without a lock; the token proves below that it is still the same claim
stranded as materialized (
    select job.id, job.lease_token, worker.stopping_at is not null as was_stopping
    from durable_job as job
    left join durable_worker as worker on worker.id = job.worker_id
    where job.worker_id is not null
        and (worker.id is null or worker.lost_at is not null or worker.stopped_at is not null)
),
held as (
    select
        job.id, job.worker_id, stranded.was_stopping,
        exists (
            select from durable_checkpoint as saved
            where saved.job_id = job.id and saved.lease_token = job.lease_token
        ) as had_progress
    from durable_job as job
    join stranded on stranded.id = job.id and stranded.lease_token = job.lease_token
    where job.state = 'RUNNING'
    order by job.id
    limit %(limit)s
    for no key update of job skip locked
),
noted as (
    insert into durable_attempt (
        job_id, attempt, outcome, lease_token, worker_id, code_version, claimed_at, ended_at
    )
    select
        job.id, job.attempt, 'LOST', job.lease_token, job.worker_id, job.code_version,
        job.claimed_at, statement_timestamp()
    from durable_job as job join held on held.id = job.id
)
update durable_job as job set
    state = 'READY',
    worker_id = null,
    lost_count = case
        when held.was_stopping then job.lost_count
        when held.had_progress then 1
        when job.claimed_ahead then job.lost_count
        else job.lost_count + 1
    end
from held
where job.id = held.id
returning
    job.id, job.task_path, held.worker_id, job.lost_count,
    case when %(notify)s::boolean and job.queue_name <> all (%(quiet_queues)s::text[])
        then pg_notify('durable', job.queue_name) end
