-- Does:    publishes a named value of a job, under its lease; the newer replaces the older.
-- Takes:   job_id, lease_token (null inside a transaction whose commit is fenced), key, value.
-- Returns: nothing; the count is 0 if the lease is lost.
-- Locks:   the job's row for share to commit, so none commits after its job was taken over.
-- Index:   durable_job_pkey, durable_jobvalue_pkey.
with lease as (
    select id from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
)
insert into durable_jobvalue (job_id, key, value, saved_at)
select %(job_id)s::uuid, %(key)s::text, %(value)s::json, statement_timestamp()
where %(lease_token)s::bigint is null or exists (select from lease)
on conflict (job_id, key) do update set value = excluded.value, saved_at = excluded.saved_at
