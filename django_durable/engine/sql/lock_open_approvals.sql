-- Does:    locks the oldest questions that look as if nobody can answer them any more: their wait is
--          over, or their job ended or started over.
-- Takes:   limit.
-- Returns: a row for each: id, job_id. Look again after locking their jobs: one may be retried by now.
-- Locks:   the questions' rows for no key update, skip locked, to commit.
-- Index:   approval_open, durable_job_pkey, durable_checkpoint_pkey.
select approval.id, approval.job_id
from durable_approval as approval
left join durable_job as job on job.id = approval.job_id
where approval.closed_at is null
    and (
        job.id is null
        or job.finished_at is not null
        or (
            job.continued_count > 0
            and not starts_with(approval.identity, 'continued' || job.continued_count || '/')
        )
        or exists (
            select from durable_checkpoint as wait
            where wait.job_id = approval.job_id and wait.identity = approval.identity
                and wait.state <> 'STARTED'
        )
    )
order by approval.requested_at
limit %(limit)s
for no key update of approval skip locked
