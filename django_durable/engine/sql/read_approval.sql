-- Does:    reads what a job needs to know of its own question.
-- Takes:   job_id, identity.
-- Returns: one row: deadline_at; whether it is closed without an answer; the decision as a checkpoint
--          keeps it (null: no answer). No row: it was never asked.
-- Locks:   nothing.
-- Index:   approval_once.
select
    deadline_at,
    closed_at is not null and approved is null,
    case when approved is not null then json_build_object(
        'approved', approved, 'data', answer, 'answered_by', answered_by_key,
        'answered_by_name', answered_by_name, 'answered_at', answered_at
    )::text end
from durable_approval
where job_id = %(job_id)s::uuid and identity = %(identity)s::text
