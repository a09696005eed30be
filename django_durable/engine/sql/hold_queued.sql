-- Does:    keeps jobs from being claimed until this transaction ends, so that they see what it wrote.
-- Takes:   ids.
-- Returns: a row for each: id. Missing: it was claimed, ended or freed meanwhile.
-- Locks:   the job rows for share, by id; claims pass over them.
-- Index:   durable_job_pkey.
select id from durable_job
where id = any (%(ids)s::uuid[]) and unique_key is not null
    and lease_token = 0 and state in ('READY', 'SCHEDULED')
order by id
for share
