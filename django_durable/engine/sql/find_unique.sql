-- Does:    finds the jobs that hold unique keys now.
-- Takes:   unique_keys.
-- Returns: a row for each key that is taken: unique_key, id; is_queued: it was never claimed;
--          is_expired: its period is over, so that whoever comes first may free it.
-- Locks:   nothing.
-- Index:   job_unique_once.
select
    unique_key, id, lease_token = 0 and state in ('READY', 'SCHEDULED'),
    unique_while = 'period' and unique_until <= statement_timestamp()
from durable_job
where unique_key = any (%(unique_keys)s::text[])
    and (
        unique_while = 'period'
        or (unique_while = 'unfinished' and finished_at is null)
        or (unique_while = 'queued' and lease_token = 0 and finished_at is null)
    )
