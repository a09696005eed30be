-- Does:    finds the session whose transaction holds a job's row.
-- Takes:   job_id.
-- Returns: one row (pid, application_name, state, when its transaction began), or none: it is over
--          by now, or several transactions share the row.
-- Locks:   nothing.
-- Index:   durable_job_pkey; pg_locks, pg_stat_activity.
select holder.pid, holder.application_name, holder.state, holder.xact_start
from durable_job as job
join pg_locks as held
    on held.locktype = 'transactionid' and held.granted and held.mode = 'ExclusiveLock'
        and held.transactionid = job.xmax
join pg_stat_activity as holder on holder.pid = held.pid
where job.id = %(job_id)s::uuid
