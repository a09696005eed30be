-- Does:    finds the ready jobs that limits let start now: of each limit a bounded number of keys, in
--          turn; of each key with room its first jobs. A limit of one for each key keeps their
--          order: only the first may start, and one that has begun and is to go on comes before all.
-- Takes:   arrays with an element for each limit in a queue: queues, limits, cursors (the key served
--          last), keys (how many to look at); most: how many jobs of a key are asked for; task_paths,
--          suspects, max_lost, undoing_limit: which jobs fit.
-- Returns: a row for each job found, and one for each key looked at without: number of the element,
--          limit_key, turn; room; whether there is a rate; seconds until the first of the starts
--          within the period is out of it; id, priority, due_at.
-- Locks:   nothing. What runs is counted in this statement, after the limits' rows were locked.
-- Index:   job_claim_limited: an entry for each key and each job found; job_limit_places: what runs
--          under a key; limitstart_latest.
with wanted as materialized (
    select
        wanted.index, wanted.queue_name, wanted.limit_name, wanted.cursor, wanted.keys,
        held.concurrency, held.rate, held.period
    from unnest(
        %(queues)s::text[], %(limits)s::text[], %(cursors)s::text[], %(keys)s::int[]
    ) with ordinality as wanted (queue_name, limit_name, cursor, keys, index)
    join durable_limit as held on held.name = wanted.limit_name
)
select
    wanted.index, key.limit_key, key.turn, place.room, wanted.rate is not null,
    extract(epoch from started.earliest + wanted.period - statement_timestamp())::float8,
    found.id, found.priority, found.due_at
from wanted
-- the keys after the one served last, then those from the first one on
cross join lateral (
    with recursive
    after as (
        (
            select limit_key, 1 as turn from durable_job
            where state = 'READY' and queue_name = wanted.queue_name
                and limit_name = wanted.limit_name and limit_key > wanted.cursor
            order by limit_key
            limit 1
        )
        union all
        select
            (
                select job.limit_key from durable_job as job
                where job.state = 'READY' and job.queue_name = wanted.queue_name
                    and job.limit_name = wanted.limit_name and job.limit_key > after.limit_key
                order by job.limit_key
                limit 1
            ),
            after.turn + 1
        from after
        where after.limit_key is not null and after.turn < wanted.keys
    ),
    before as (
        (
            select limit_key, 1 + (select count(limit_key) from after)::int as turn from durable_job
            where state = 'READY' and queue_name = wanted.queue_name
                and limit_name = wanted.limit_name and limit_key <= wanted.cursor
                and (select count(limit_key) from after) < wanted.keys
            order by limit_key
            limit 1
        )
        union all
        select
            (
                select job.limit_key from durable_job as job
                where job.state = 'READY' and job.queue_name = wanted.queue_name
                    and job.limit_name = wanted.limit_name and job.limit_key > before.limit_key
                    and job.limit_key <= wanted.cursor
                order by job.limit_key
                limit 1
            ),
            before.turn + 1
        from before
        where before.limit_key is not null and before.turn < wanted.keys
    )
    select limit_key, turn from after where limit_key is not null
    union all
    select limit_key, turn from before where limit_key is not null
) as key
cross join lateral (
    select coalesce(sum(jobs), 0) as jobs, min(started_at) as earliest from durable_limitstart
    where scope = 'limit/' || wanted.limit_name and limit_key = key.limit_key
        and started_at > statement_timestamp() - wanted.period
) as started
cross join lateral (
    select
        least(
            %(most)s::bigint,
            wanted.concurrency - (
                select count(*) from durable_job
                where limit_name = wanted.limit_name and limit_key = key.limit_key
                    and state = 'RUNNING' and started_at is not null and finished_at is null
            ),
            wanted.rate - started.jobs
        ) as room,
        wanted.concurrency = 1 and key.limit_key <> '' as keeps_order
    offset 0  -- so that it is counted once, not wherever it is named
) as place
left join lateral (
    select first.id, first.priority, first.due_at
    from (
        select job.id, job.priority, job.due_at, how.fits
        from durable_job as job
        cross join lateral (
            select job.task_path = any (%(task_paths)s::text[])
                and %(suspects)s::boolean = (
                    job.lost_count >= 2 and (
                        job.lost_count < %(max_lost)s::int
                        or (job.ends_as is not null and job.lost_count < %(undoing_limit)s::int)
                    )
                ) as fits
        ) as how
        where job.state = 'READY' and job.queue_name = wanted.queue_name
            and job.limit_name = wanted.limit_name and job.limit_key = key.limit_key
            and case
                when not place.keeps_order then how.fits
                else job.started_at is not null or not exists (
                    select from durable_job as begun
                    where begun.limit_name = wanted.limit_name and begun.limit_key = key.limit_key
                        and begun.state in ('READY', 'SCHEDULED')
                        and begun.started_at is not null and begun.finished_at is null
                )
            end
        order by job.started_at is null, job.priority desc, job.due_at, job.id
        -- some more than there is room for, if rows of the first ones are locked
        limit case when place.room <= 0 then 0 when place.keeps_order then 1 else place.room + 2 end
    ) as first
    where first.fits
) as found on place.room > 0
order by wanted.index, key.turn
