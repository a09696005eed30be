-- Does:    takes in any number of jobs from outside jobs, as lines of text.
-- Takes:   the lines, as COPY's text format has them: columns parted by tabs, null as \N.
-- Returns: nothing.
-- Locks:   nothing that exists.
-- Index:   none read.
copy durable_job (
    id, arguments, task_path, queue_name, priority, state, due_at, run_after, lease_token, attempt,
    attempt_base, lost_count, blocked_count, allowed_steps, subject_type, subject_key, limit_name,
    limit_key, context, deadline_at, enqueued_at
) from stdin
