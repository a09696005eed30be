-- Does:    finds live jobs whose deadline has passed while nobody runs them; those that end anyway,
--          cancelled or by what they decided, are left alone.
-- Takes:   limit.
-- Returns: a row for each, the longest overdue first: id, task_path, deadline_at.
-- Locks:   nothing.
-- Index:   job_deadline.
select id, task_path, deadline_at from durable_job
where deadline_at <= statement_timestamp() and finished_at is null
    and state in ('READY', 'SCHEDULED', 'WAITING')
    and ends_as is null and cancel_requested_at is null
order by deadline_at
limit %(limit)s
