-- Does:    takes the oldest message of a mailbox and saves it as the checkpoint of the wait for it,
--          in one commit, so that it is taken once and never lost.
-- Takes:   job_id, lease_token; name; the checkpoint's identity, seq, function.
-- Returns: one row: held: the lease is good; cancelled: cancelling was asked for; the checkpoint's
--          value, now or by an earlier call whose answer was lost; null if there is no message.
-- Locks:   the job's row for share; the message.
-- Index:   durable_job_pkey, message_untaken, durable_checkpoint_pkey.
with
lease as (
    select id, cancel_requested_at is not null as cancelled from durable_job
    where id = %(job_id)s::uuid and lease_token = %(lease_token)s::bigint and state = 'RUNNING'
    for share
),
oldest as (
    select id, payload, sent_at from durable_message
    where job_id = %(job_id)s::uuid and name = %(name)s::text and taken_as is null
        and exists (select from lease)
    order by id
    limit 1
    for no key update
),
saved as (
    insert into durable_checkpoint as old (
        job_id, identity, seq, kind, state, function, attempt, value, lease_token, started_at,
        saved_at
    )
    select
        lease.id, %(identity)s::text, %(seq)s::int, 'event', 'SUCCESSFUL', %(function)s::text, 1,
        json_build_object('payload', oldest.payload, 'sent_at', oldest.sent_at),
        %(lease_token)s::bigint, statement_timestamp(), statement_timestamp()
    from lease, oldest
    on conflict (job_id, identity) do update set
        state = excluded.state, value = excluded.value, lease_token = excluded.lease_token,
        next_attempt_at = null, wait_key = null, saved_at = excluded.saved_at
    where old.state = 'STARTED'
    returning value::text
),
taken as (
    update durable_message as message set taken_as = %(identity)s::text
    from oldest
    where message.id = oldest.id and exists (select from saved)
)
select
    exists (select from lease), coalesce((select cancelled from lease), false),
    coalesce(
        (select value from saved),
        (
            select value::text from durable_checkpoint
            where job_id = %(job_id)s::uuid and identity = %(identity)s::text
                and state = 'SUCCESSFUL'
        )
    )
