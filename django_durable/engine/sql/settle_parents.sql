-- Does:    draws the consequences of children's ends: siblings that were held back go as far as
--          their map allows, and parents whose wait is over become ready. Wakes their queues.
-- Takes:   parent_ids, awaited_ases: the families, in pairs, whose parents this transaction locked
--          before; notify: whether to wake, but for quiet_queues.
-- Returns: one row: how many siblings were released, and how many parents woken.
-- Locks:   siblings that are held back, by nobody else while the parent is locked; the parents.
-- Index:   job_awaited, durable_checkpoint_pkey, checkpoint_waiting, durable_job_pkey.
with
-- what a map has written down before its children were there. Of a single child, and of a map that
-- is over, there is nothing: whatever is still held back then goes one at a time
family as (
    select
        pair.parent_id, pair.awaited_as,
        'children/' || pair.parent_id || '/' || pair.awaited_as as wait_key,
        case when map.value is null then 1 else (map.value ->> 'max_concurrency')::int end
            as max_concurrency,
        (map.value ->> 'min_successes')::int as min_successes,
        (map.value ->> 'max_failures')::int as max_failures
    from (
        select distinct parent_id, awaited_as
        from unnest(%(parent_ids)s::uuid[], %(awaited_ases)s::text[]) as p (parent_id, awaited_as)
    ) as pair
    left join durable_checkpoint as map
        on map.job_id = pair.parent_id and map.identity = pair.awaited_as
            and map.kind = 'map' and map.state = 'STARTED'
),
-- those held back whose turn it is, the eldest first; all of them if there is no bound
next as (
    select held.id
    from family
    cross join lateral (
        select family.max_concurrency - count(*) as places
        from (
            -- state by state: a list of them would be a filter on all entries of the family
            select from unnest(array['READY', 'SCHEDULED', 'RUNNING']) as live (state)
            cross join lateral (
                select from durable_job
                where parent_id = family.parent_id and awaited_as = family.awaited_as
                    and durable_job.state = live.state
                limit coalesce(family.max_concurrency, 0)
            ) as child
            union all
            select from durable_job
            where parent_id = family.parent_id and awaited_as = family.awaited_as
                and state = 'WAITING' and wait_kind < 'limit'
            union all
            select from durable_job
            where parent_id = family.parent_id and awaited_as = family.awaited_as
                and state = 'WAITING' and wait_kind > 'limit'
            limit coalesce(family.max_concurrency, 0)
        ) as busy
    ) as free
    cross join lateral (
        select id from durable_job
        where parent_id = family.parent_id and awaited_as = family.awaited_as
            and state = 'WAITING' and wait_kind = 'limit'
        -- by id, said in all columns of the index, whose order is not seen to be that otherwise
        order by parent_id, awaited_as, state, wait_kind, id
        limit case when free.places < 0 then 0 else free.places end
    ) as held
),
released as (
    update durable_job as job set
        state = case when job.run_after > statement_timestamp() then 'SCHEDULED' else 'READY' end,
        due_at = greatest(statement_timestamp(), job.run_after),
        wait_kind = null,
        wait_key = null,
        wait_reason = null,
        wait_deadline_at = null,
        waiting_since = null
    from next
    where job.id = next.id and job.state = 'WAITING' and job.wait_kind = 'limit'
    returning job.queue_name, job.state
),
-- parents that wait for this, and have waited long enough
done as (
    select parent.id
    from family
    join durable_job as parent on parent.id = family.parent_id
    where parent.state = 'WAITING' and parent.wait_kind not in ('limit', 'blocked')
        and exists (
            select from durable_checkpoint as wait
            where wait.wait_key = family.wait_key and wait.job_id = family.parent_id
                and wait.state = 'STARTED'
        )
        and (
            -- in a transaction that sees siblings as they were: the parent looks for itself
            current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
            or (
                select true
                from unnest(array['READY', 'SCHEDULED', 'RUNNING', 'WAITING']) as live (state)
                cross join lateral (
                    select from durable_job
                    where parent_id = family.parent_id and awaited_as = family.awaited_as
                        and durable_job.state = live.state
                    limit 1
                ) as child
                limit 1
            ) is null
            or (
                select count(*) from (
                    select from unnest(array['FAILED', 'CANCELLED']) as bad (state)
                    cross join lateral (
                        select from durable_job
                        where parent_id = family.parent_id and awaited_as = family.awaited_as
                            and durable_job.state = bad.state
                        limit coalesce(family.max_failures + 1, 0)
                    ) as child
                    limit coalesce(family.max_failures + 1, 0)
                ) as failure
            ) > family.max_failures
            or (
                select count(*) from (
                    select from durable_job
                    where parent_id = family.parent_id and awaited_as = family.awaited_as
                        and state = 'SUCCESSFUL'
                    limit coalesce(family.min_successes, 0)
                ) as success
            ) >= family.min_successes
        )
),
woken as (
    update durable_job as parent set
        state = 'READY',
        due_at = statement_timestamp(),
        wait_kind = null,
        wait_key = null,
        wait_reason = null,
        wait_deadline_at = null,
        waiting_since = null
    from done
    where parent.id = done.id and parent.state = 'WAITING'
    returning parent.queue_name
),
notified as (
    select pg_notify('durable', queue_name)
    from (
        select queue_name from released where state = 'READY' union select queue_name from woken
    ) as queue
    where %(notify)s::boolean and queue_name <> all (%(quiet_queues)s::text[])
)
select
    (select count(*) from released), (select count(*) from woken), (select count(*) from notified)
