-- Does:    writes a question to people under its job's lease, once for each wait. One that was closed
--          without an answer, since its job had ended, is open again: the job was retried.
-- Takes:   job_id, lease_token; the question's columns; deadline_at, or deadline from now, or neither.
-- Returns: nothing; read_approval says whether it stands there.
-- Locks:   the job's row for share, and the question's row if there is one, to commit.
-- Index:   durable_job_pkey, approval_once.
insert into durable_approval as old (
    job_id, identity, title, form_path, group_name, permission, subject_type, subject_key,
    requested_at, deadline_at
)
select
    lease.id, %(identity)s::text, %(title)s::text, %(form_path)s::text, %(group_name)s::text,
    %(permission)s::text, %(subject_type)s::text, %(subject_key)s::text, statement_timestamp(),
    coalesce(%(deadline_at)s::timestamptz, statement_timestamp() + %(deadline)s::interval)
from (
    select id from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
) as lease
on conflict (job_id, identity) do update set closed_at = null
where old.closed_at is not null and old.approved is null
