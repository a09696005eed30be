-- Does:    locks jobs before a verb decides about them in a later statement. A decision in the same
--          statement would mix the locked row with the one its snapshot sees.
-- Takes:   ids.
-- Returns: a row for each job found: id, task_path, state.
-- Locks:   the job rows for no key update, by id, to commit.
-- Index:   durable_job_pkey.
select id, task_path, state from durable_job
where id = any (%(ids)s::uuid[])
order by id
for no key update
