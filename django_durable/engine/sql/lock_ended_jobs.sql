-- Does:    keeps jobs as they are while their questions are closed: a retry of one waits.
-- Takes:   ids.
-- Returns: a row for each that is there: id.
-- Locks:   the job rows for share, by id, after their questions.
-- Index:   durable_job_pkey.
select id from durable_job where id = any(%(ids)s::uuid[]) order by id for share
