-- Does:    reads settings of the server as they hold for this session.
-- Takes:   names.
-- Returns: a row for each that this version has: name, setting (times in milliseconds).
-- Locks:   nothing.
-- Index:   pg_settings.
select name, setting from pg_settings where name = any (%(names)s::text[])
