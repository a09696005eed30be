-- Does:    finds the roles whose sessions this session's role may not end: the one is no superuser
--          and the other is, or it is neither a member of it nor of pg_signal_backend.
-- Takes:   roles: names.
-- Returns: a row for each: its name.
-- Locks:   nothing.
-- Index:   the catalogue's own.
select theirs.rolname::text
from pg_roles as theirs, pg_roles as own
where theirs.rolname = any (%(roles)s::text[]) and own.rolname = current_user
    and not own.rolsuper
    and (
        theirs.rolsuper
        or not (
            pg_has_role(own.oid, theirs.oid, 'USAGE')
            or pg_has_role(own.oid, 'pg_signal_backend', 'USAGE')
        )
    )
order by theirs.rolname
