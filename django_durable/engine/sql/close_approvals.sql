-- Does:    marks questions closed whose wait is over, or whose job ended or started over.
--          At the time it did, as far as that is known.
-- Takes:   ids of questions that are locked.
-- Returns: nothing; the count says how many.
-- Locks:   the questions' rows, which are locked already.
-- Index:   durable_approval_pkey, durable_job_pkey, durable_checkpoint_pkey.
update durable_approval as approval set closed_at = ended.at
from (
    select open.id, coalesce(wait.saved_at, job.finished_at, statement_timestamp()) as at
    from durable_approval as open
    left join durable_job as job on job.id = open.job_id
    left join durable_checkpoint as wait
        on wait.job_id = open.job_id and wait.identity = open.identity and wait.state <> 'STARTED'
    where open.id = any(%(ids)s::bigint[])
        and (
            job.id is null or job.finished_at is not null or wait.job_id is not null
            or (
                job.continued_count > 0
                and not starts_with(open.identity, 'continued' || job.continued_count || '/')
            )
        )
) as ended
where approval.id = ended.id and approval.closed_at is null
