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
                -- state by state: a list would be a filter on all entries of the family
                select from unnest(array['READY', 'SCHEDULED', 'RUNNING', 'WAITING']) as live (state)
                cross join lateral (
                    select from durable_job
                    where parent_id = %(job_id)s::uuid and awaited_as = awaited.name
                        and durable_job.state = live.state
                    limit 1
                ) as child
            )
            -- or more have failed than may
            or (
                select count(*) from (
                    select from unnest(array['FAILED', 'CANCELLED']) as bad (state)
                    cross join lateral (
                        select from durable_job
                        where parent_id = %(job_id)s::uuid and awaited_as = awaited.name
                            and durable_job.state = bad.state
                        limit 1 + (rule.value ->> 'max_failures')::int
                    ) as child
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
