-- Does:    puts messages back that some waits have taken, and forgets these waits.
-- Takes:   job_id, lease_token; identities of the waits.
-- Returns: nothing. Without the lease nothing is changed.
-- Locks:   the job's row for share; the messages.
-- Index:   durable_job_pkey, message_job, durable_checkpoint_pkey.
with
lease as (
    select id from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
freed as (
    update durable_message as message set taken_as = null
    from lease
    where message.job_id = lease.id and message.taken_as = any (%(identities)s::text[])
)
delete from durable_checkpoint as taken
using lease
where taken.job_id = lease.id and taken.identity = any (%(identities)s::text[])
