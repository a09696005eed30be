-- Does:    locks jobs, and the parents that wait for them, as far as nobody else holds them: what a
--          chore decides about, which must not wait.
-- Takes:   ids.
-- Returns: a row for each of them that is locked together with its parent: id, task_path, state.
-- Locks:   the job rows for no key update, skip locked, by id, to commit.
-- Index:   durable_job_pkey.
with locked as (
    select id, task_path, state, parent_id, awaited_as from durable_job
    where id = any (
        %(ids)s::uuid[] || array(
            select parent_id from durable_job
            where id = any (%(ids)s::uuid[]) and awaited_as is not null
        )
    )
    order by id
    for no key update skip locked
)
select id, task_path, state from locked as job
where id = any (%(ids)s::uuid[])
    and (
        awaited_as is null
        or exists (select from locked as parent where parent.id = job.parent_id)
        -- gone altogether: somebody deleted it by hand
        or not exists (select from durable_job as parent where parent.id = job.parent_id)
    )
