-- Does:    deletes the rows of workers that ended long enough ago and hold no job.
-- Takes:   retention: an interval since the end.
-- Returns: nothing; the count says how many.
-- Locks:   the worker rows for update, skip locked.
-- Index:   job_running.
with doomed as (
    select worker.id from durable_worker as worker
    where coalesce(worker.stopped_at, worker.lost_at)
            < statement_timestamp() - %(retention)s::interval
        and not exists (
            select from durable_job as job
            where job.worker_id = worker.id and job.state = 'RUNNING'
        )
    for update of worker skip locked
)
delete from durable_worker as worker using doomed where worker.id = doomed.id
