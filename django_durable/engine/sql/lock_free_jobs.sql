-- Does:    locks jobs, and the parents that wait for them, as far as nobody else holds them: what a
--          chore decides about, which must not wait. A job whose parent is held is not locked
--          either, since whoever holds the parent may want it next.
-- Takes:   ids.
-- Returns: a row for each of them that is locked together with its parent: id, task_path, state.
-- Locks:   the parents, then the jobs, for no key update, skip locked, by id, to commit.
-- Index:   durable_job_pkey.
with parents as materialized (
    select id from durable_job
    where id in (
        select parent_id from durable_job
        where id = any (%(ids)s::uuid[]) and awaited_as is not null
    )
    order by id
    for no key update skip locked
)
select id, task_path, state from durable_job as job
where id = any (%(ids)s::uuid[])
    and (
        awaited_as is null
        or parent_id in (select id from parents)
        -- gone altogether: somebody deleted it by hand
        or not exists (select from durable_job as parent where parent.id = job.parent_id)
    )
order by id
for no key update skip locked
