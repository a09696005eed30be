-- Does:    finds where the first ready jobs of a queue stand that are under no limit.
-- Takes:   queue_name; most: how many.
-- Returns: a row for each, in the order of claims: priority, due_at, id.
-- Locks:   nothing.
-- Index:   job_claim, an entry for each row.
select priority, due_at, id
from durable_job
where state = 'READY' and limit_name is null and queue_name = %(queue_name)s::text
order by priority desc, due_at, id
limit %(most)s::int
