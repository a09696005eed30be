"""The doctor's look at PostgreSQL: its settings, its clock, its connections, its housekeeping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from django.apps import apps
from django.db import connections
from django.utils import timezone

from django_durable.conf import get_settings
from django_durable.engine.boot import STRAYS_HINT, describe_strays
from django_durable.engine.liveness import find_protected_roles, read_place
from django_durable.engine.sessions import connect, count_connections, engine_alias, find_strays
from django_durable.engine.sql import fetch_all, fetch_one, load
from django_durable.management.operations.finding import FAIL, WARN, Finding
from django_durable.management.operations.output import age, count_of, span
from django_durable.management.operations.reading import (
    database_now,
    jobs_alias,
    read_workers,
)

READ_SERVER = load("read_server")
READ_SETTINGS = load("read_settings")
READ_TABLES = load("read_tables")
READ_HORIZON = load("read_horizon")
LARGEST_SKEW = timedelta(seconds=1)
OLDEST_TRANSACTION = timedelta(hours=1)
MANY_DEAD_ROWS = 10_000
LARGEST_DEAD_SHARE = 0.2
"""Of the live rows; the tables' own parameters begin a vacuum at a tenth of it."""
VACUUM_PATIENCE = timedelta(minutes=10)
OLDEST_HORIZON = 5_000_000
"""In transactions: a busy hour of jobs."""


@dataclass(frozen=True, slots=True)
class Server:
    """One row of ``read_server``."""

    is_standby: bool
    sessions: int
    worker_roles: list[str]
    role: str
    notification_queue: float
    oldest_pid: int | None
    oldest_begin: datetime | None


def read_server() -> Server:
    row = fetch_one(connections[jobs_alias()], READ_SERVER, {})
    assert row is not None  # an aggregate without grouping returns one row
    return Server(*row)


def read_settings() -> dict[str, str]:
    """The server's settings as they hold for this session; lengths of time in milliseconds."""
    names = [*_SWITCHES, *_TIME_LIMITS, *_CONNECTION_LIMITS, "default_transaction_isolation"]
    return dict(fetch_all(connections[jobs_alias()], READ_SETTINGS, {"names": names}))


@dataclass(frozen=True, slots=True)
class Switch:
    """A setting that has to stand one way, and what happens otherwise."""

    right: str
    level: str
    otherwise: str


_SWITCHES = {
    "fsync": Switch("on", FAIL, "a crash of the machine can destroy the database"),
    "full_page_writes": Switch("on", FAIL, "a crash of the machine can destroy the database"),
    "synchronous_commit": Switch(
        "on", WARN, "a crash of the server forgets the last commits, and steps run again"
    ),
    "autovacuum": Switch("on", FAIL, "the tables of jobs grow, and claims become slow"),
    "track_counts": Switch("on", FAIL, "autovacuum does not work without it"),
    "default_transaction_read_only": Switch("off", FAIL, "nothing can be enqueued or run"),
}
_SAFE_COMMITS = ("on", "local", "remote_write", "remote_apply")
_TIME_LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)
_CONNECTION_LIMITS = (
    "max_connections", "superuser_reserved_connections", "reserved_connections",
)  # fmt: skip


def server_settings() -> Iterator[Finding]:
    """Settings as Django's connection meets them: the server's, the role's, the database's."""
    settings = read_settings()
    found = [*_wrong_switches(settings), *_short_limits(settings), *_isolation(settings)]
    yield from found
    if not found:
        says = (
            "fsync, synchronous_commit, isolation, autovacuum, time limits are as they should be."
        )
        yield Finding(code="server-settings", says=says)


def _wrong_switches(settings: dict[str, str]) -> Iterator[Finding]:
    for name, switch in _SWITCHES.items():
        value = settings[name]
        if value == switch.right or (name == "synchronous_commit" and value in _SAFE_COMMITS):
            continue
        yield Finding(
            code=name,
            level=switch.level,
            says=f"{name} is {value}: {switch.otherwise}.",
            cure=f"set {name} = {switch.right}, for the server, the role or the database.",
        )


def _short_limits(settings: dict[str, str]) -> Iterator[Finding]:
    lease = get_settings().LEASE
    for name in _TIME_LIMITS:
        limit = timedelta(milliseconds=int(settings.get(name, 0)))
        if timedelta(0) < limit < lease:
            yield Finding(
                code=name,
                level=WARN,
                says=f"{name} is {span(limit)}, shorter than a lease ({span(lease)}): it cuts "
                "off atomic steps, claims or waiting sessions, which are then repeated.",
                cure=f"give the role of the workers a longer one: alter role ... set {name} = ...",
            )


def _isolation(settings: dict[str, str]) -> Iterator[Finding]:
    value = settings["default_transaction_isolation"]
    if value != "read committed":
        yield Finding(
            code="default_transaction_isolation",
            level=WARN,
            says=f"default_transaction_isolation is {value}: claims and keys meet serialization "
            "failures where they would wait at read committed.",
            cure="leave it at read committed, and raise it for the transactions that need it.",
        )


def connections_suffice() -> Iterator[Finding]:
    """Whether the live workers' ceilings fit into what the server allows."""
    settings, server = read_settings(), read_server()
    limits = [int(settings.get(name, 0)) for name in _CONNECTION_LIMITS]
    usable = limits[0] - sum(limits[1:])
    workers = [w for w in read_workers(database_now()) if w.is_alive]
    ceiling = sum(count_connections(jobs_alias(), worker.slots) for worker in workers)
    says = (
        f"{count_of(len(workers), 'live worker')} may use {ceiling} of {usable} connections; "
        f"{server.sessions} are open now."
    )
    if ceiling > usable:
        cure = "lower --slots, run fewer workers, raise max_connections, or put a pooler between."
        yield Finding(code="connections", level=WARN, says=says, cure=cure)
    else:
        yield Finding(code="connections", says=says)


def sessions_are_in_order() -> Iterator[Finding]:
    """Standby, roles, old transactions, notifications that nobody fetches."""
    server = read_server()
    if server.is_standby:
        yield Finding(
            code="standby",
            level=FAIL,
            says="The jobs' database is a standby: nothing can be written.",
            cure="let DATABASES name the primary.",
        )
    yield from roles_suffice(server)
    now = database_now()
    if server.oldest_begin is not None and now - server.oldest_begin > OLDEST_TRANSACTION:
        yield Finding(
            code="old-transaction",
            level=WARN,
            says=f"Session {server.oldest_pid} has a transaction open since "
            f"{age(server.oldest_begin, now)}: meanwhile no dead row can be removed.",
            cure=f"end it: select pg_terminate_backend({server.oldest_pid})",
        )
    if server.notification_queue > 0.5:
        yield Finding(
            code="notification-queue",
            level=WARN,
            says=f"The queue of notifications is {server.notification_queue:.0%} full; when it is "
            "full, enqueueing fails.",
            cure="find the session that listens and never fetches: it is in a transaction.",
        )


def roles_suffice(server: Server) -> Iterator[Finding]:
    """Whether the engine's role may end the sessions of lost workers."""
    with connect(engine_alias(jobs_alias())) as own:
        _, role = read_place(own)
        protected = find_protected_roles(own, [server.role, *server.worker_roles])
    if protected:
        yield Finding(
            code="roles",
            level=WARN,
            says=f"Workers' engines are connected as {role}, which may not end sessions of "
            f"{', '.join(protected)}: what a frozen worker has locked stays locked for longer.",
            cure=f"grant {protected[0]} to {role}, or grant pg_signal_backend to {role}.",
        )


def aliases_agree() -> Iterator[Finding]:
    """Whether ENGINE_DATABASE and DIRECT_DATABASE lead to the jobs."""
    try:
        strays = find_strays(jobs_alias())
        says = describe_strays(strays, jobs_alias()) if strays else ""
    except psycopg.Error as error:
        says = f"{error}".strip()
    if says:
        yield Finding(code="aliases", level=FAIL, says=says, cure=STRAYS_HINT)


def clocks_agree() -> Iterator[Finding]:
    before = timezone.now()
    database = database_now()
    after = timezone.now()
    skew = max(before - database, database - after, timedelta(0))
    if skew <= LARGEST_SKEW:
        yield Finding(code="clock", says="This machine's clock and the database's agree.")
        return
    yield Finding(
        code="clock",
        level=WARN,
        says=f"This machine's clock is {span(skew)} {'ahead' if before > database else 'behind'}: "
        "run_after is told by it, and due times are judged by the database's.",
        cure="let both machines keep time by NTP; delay=... counts on the database's clock only.",
    )


def tables_are_vacuumed() -> Iterator[Finding]:
    tables = [model._meta.db_table for model in apps.get_app_config("durable").get_models()]
    found: list[Finding] = []
    for name, live, dead, vacuumed_at, is_off in fetch_all(
        connections[jobs_alias()], READ_TABLES, {"tables": tables}
    ):
        if is_off:
            says = f"Table {name} has autovacuum switched off: it grows, and claims become slow."
            cure = f"alter table {name} reset (autovacuum_enabled)"
            found.append(Finding(code="autovacuum", level=FAIL, says=says, cure=cure))
        now = database_now()
        is_behind = vacuumed_at is None or now - vacuumed_at > VACUUM_PATIENCE
        if is_behind and dead > max(live * LARGEST_DEAD_SHARE, MANY_DEAD_ROWS):
            when = age(vacuumed_at, now) or "never"
            says = f"Table {name} has {dead} dead rows beside {live} live ones, vacuumed {when}."
            cure = f"vacuum {name}; then see what keeps autovacuum from it (old transactions?)."
            found.append(Finding(code="dead-rows", level=WARN, says=says, cure=cure))
    yield from found or [Finding(code="autovacuum", says="Autovacuum keeps up with the tables.")]


def nothing_holds_vacuum_up() -> Iterator[Finding]:
    """What is no session, and so not found among the old transactions."""
    params = {"least_age": OLDEST_HORIZON}
    for kind, name, old in fetch_all(connections[jobs_alias()], READ_HORIZON, params):
        yield Finding(
            code="vacuum-horizon",
            level=WARN,
            says=f"A {kind} ({name}) needs what {old} transactions have changed since: no row that "
            "died meanwhile can be removed.",
            cure=_HORIZON_CURES[kind],
        )


_HORIZON_CURES = {
    "replication slot": "have it read again, or drop it: select pg_drop_replication_slot(...)",
    "standby": "end its long query, or set hot_standby_feedback = off there.",
    "prepared transaction": "end it: commit prepared ..., or rollback prepared ...",
}


EXAMINATIONS: Sequence[Callable[[], Iterator[Finding]]] = (
    server_settings,
    clocks_agree,
    aliases_agree,
    connections_suffice,
    sessions_are_in_order,
    tables_are_vacuumed,
    nothing_holds_vacuum_up,
)
