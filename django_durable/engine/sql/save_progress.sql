-- Does:    writes how far a job has come, under its lease; the newer replaces the older.
-- Takes:   job_id, lease_token, done, total (null: not known), note.
-- Returns: one row: whether it is written, and whether the lease is held. Held but not written: the
--          job's row is locked just now, perhaps by a transaction of the job's own.
-- Locks:   the job's row for share to commit, so none commits after its job was taken over; it
--          waits for nobody, since it is only told to people.
-- Index:   durable_job_pkey, durable_progress_pkey.
with
lease as (
    select id from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share skip locked
),
saved as (
    insert into durable_progress (job_id, done, total, note, saved_at)
    select id, %(done)s::bigint, %(total)s::bigint, %(note)s::text, statement_timestamp()
    from lease
    on conflict (job_id) do update set
        done = excluded.done, total = excluded.total, note = excluded.note,
        saved_at = excluded.saved_at
    returning 1
)
select
    exists (select from saved),
    exists (
        select from durable_job
        where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    )
