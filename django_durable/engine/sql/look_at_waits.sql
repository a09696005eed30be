-- Does:    looks whether something a job waits for has come. Run it after the job's row, and the rows
--          of its events, are locked, never in the same statement.
-- Takes:   job_id; event_keys; message_names; children: what it awaits its children as.
-- Returns: one row: whether anything has come.
-- Locks:   nothing.
-- Index:   durable_event_pkey, message_untaken, job_awaited, checkpoint_waiting.
select
    exists (
        select from durable_event
        where key = any (%(event_keys)s::text[]) and emitted_at is not null
    )
    or exists (
        select from durable_message
        where job_id = %(job_id)s::uuid and name = any (%(message_names)s::text[])
            and taken_as is null
    )
    or exists (
        select from unnest(%(children)s::text[]) as awaited (name)
        left join durable_checkpoint as rule
            on rule.wait_key = 'children/' || %(job_id)s::text || '/' || awaited.name
            and rule.state = 'STARTED'
        where
            -- none is left
            not exists (
                select from durable_job as child
                where child.parent_id = %(job_id)s::uuid and child.awaited_as = awaited.name
                    and child.state in ('READY', 'SCHEDULED', 'RUNNING', 'WAITING')
            )
            -- or more have failed than may
            or (
                select count(*) from (
                    select from durable_job as child
                    where child.parent_id = %(job_id)s::uuid and child.awaited_as = awaited.name
                        and child.state in ('FAILED', 'CANCELLED')
                    limit 1 + (rule.value ->> 'max_failures')::int
                ) as failed
            ) > (rule.value ->> 'max_failures')::int
            -- or enough have succeeded
            or (
                select count(*) from (
                    select from durable_job as child
                    where child.parent_id = %(job_id)s::uuid and child.awaited_as = awaited.name
                        and child.state = 'SUCCESSFUL'
                    limit (rule.value ->> 'min_successes')::int
                ) as successful
            ) >= (rule.value ->> 'min_successes')::int
    )
