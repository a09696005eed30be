"""Deleting what finished long enough ago, a chunk at a time, never a live job."""

from datetime import timedelta

from django_durable.engine.sql import Connection, execute, load

PRUNE_JOBS = load("prune_jobs")
PRUNE_EVENTS = load("prune_events")
PRUNE_KEYS = load("prune_keys")
PRUNE_WORKERS = load("prune_workers")


def prune_jobs(connection: Connection, state: str, retention: timedelta, *, limit: int) -> int:
    """Delete up to ``limit`` jobs in a final state that finished before the retention; how many."""
    params = {"state": state, "retention": retention, "limit": limit}
    return execute(connection, PRUNE_JOBS, params)


def prune_events(connection: Connection, retention: timedelta, *, limit: int) -> int:
    """Delete up to ``limit`` broadcast events older than the retention; how many."""
    return execute(connection, PRUNE_EVENTS, {"retention": retention, "limit": limit})


def prune_keys(connection: Connection, *, limit: int) -> int:
    """Delete up to ``limit`` expired keys of ``once``; how many."""
    return execute(connection, PRUNE_KEYS, {"limit": limit})


def prune_workers(connection: Connection, retention: timedelta) -> int:
    """Delete the rows of workers that ended before the retention; how many."""
    return execute(connection, PRUNE_WORKERS, {"retention": retention})
