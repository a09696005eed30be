-- Does:    locks mailboxes, by whoever sends to them or is suspended for them. Rows that do not
--          exist yet are made.
-- Takes:   job_ids and names, an element of each for each mailbox.
-- Returns: a row for each: job_id, name.
-- Locks:   the mailbox rows, by job and name, to commit: the order of commits is that of messages.
-- Index:   durable_mailbox_pkey.
insert into durable_mailbox as old (job_id, name, created_at)
select distinct job_id, name, statement_timestamp()
from unnest(%(job_ids)s::uuid[], %(names)s::text[]) as wanted (job_id, name)
order by job_id, name
on conflict (job_id, name) do update set created_at = old.created_at
returning job_id, name
