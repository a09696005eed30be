-- Does:    reads what else than a session keeps dead rows from being removed: replication slots,
--          standbys that report back, transactions that are prepared and never ended.
-- Takes:   least_age: in transactions.
-- Returns: a row for each older than that, the oldest first: its kind, its name, its age.
-- Locks:   nothing.
-- Index:   the catalogue's own.
with
holder as (
    select
        'replication slot' as kind, slot_name::text as name,
        greatest(age(xmin), age(catalog_xmin)) as age
    from pg_replication_slots
    union all
    select 'standby', coalesce(application_name, '?') || ', pid ' || pid, age(backend_xmin)
    from pg_stat_replication
    union all
    select 'prepared transaction', gid, age(transaction) from pg_prepared_xacts
)
select kind, name, age from holder where age > %(least_age)s::integer order by age desc
