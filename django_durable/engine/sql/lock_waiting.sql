-- Does:    locks the jobs that wait for something that has come, and the job that brings it. One that
--          is blocked, or held back, looks for itself when it goes on.
-- Takes:   wait_keys; own_id: the job that emits or sends (null outside jobs).
-- Returns: a row for each: id, lease_token, state, and whether cancelling was asked for.
-- Locks:   the job rows for no key update, by id, to commit.
-- Index:   checkpoint_waiting, durable_job_pkey.
select id, lease_token, state, cancel_requested_at is not null from durable_job
where id = %(own_id)s::uuid or (
    state = 'WAITING' and wait_kind not in ('blocked', 'limit') and id in (
        select job_id from durable_checkpoint
        where wait_key = any (%(wait_keys)s::text[]) and state = 'STARTED'
    )
)
order by id
for no key update
