-- Does:    locks jobs, and the parents that wait for them, before anything is decided about them in
--          a later statement. A decision in the same statement would mix the locked row with the
--          one its snapshot sees.
-- Takes:   ids.
-- Returns: a row for each job found, parents among them: id, task_path, state.
-- Locks:   the job rows for no key update, by id, to commit. A parent's id is smaller than those of
--          its children, so who holds a child that is awaited has held its parent before.
-- Index:   durable_job_pkey.
select id, task_path, state from durable_job
where id = any (
    %(ids)s::uuid[] || array(
        select parent_id from durable_job
        where id = any (%(ids)s::uuid[]) and awaited_as is not null
    )
)
order by id
for no key update
