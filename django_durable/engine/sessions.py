"""A worker's database sessions: what each is for, how it is named, and when it is given back.

Every session is named ``durable:<worker id>``, so that all can be ended if the worker is declared
lost. Slots share Django's own connection pool, small when idle; the engine has three sessions of
its own: one that claims and keeps house, one that writes durable points, one that listens, holds
the lock and sends heartbeats. They may go by another alias, under another role: atomic steps and
enqueueing never do, since they share the transactions of the business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connections
from django.db.utils import load_backend

from django_durable.conf import get_settings
from django_durable.engine.liveness import find_protected_roles, read_place, session_name

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

ENGINE_SESSIONS = 3
SMALLEST_POOL = 2
"""A slot inside a transaction, and a branch of its job."""
IDLE_SECONDS = 0.1
"""A pool gives up one unused connection each so often, so bursts do not keep theirs."""


LONGEST_WAIT = 600.0
"""Seconds for which threads wait for a connection: branches may be many more than slots."""


NETWORK_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that vanished without a word is given up after half a minute; else it would be hours."""


def postgresql_aliases() -> list[str]:
    return [alias for alias in connections if connections[alias].vendor == "postgresql"]


def engine_alias(alias: str) -> str:
    """The alias that the engine's own sessions go by, for the jobs' database ``alias``."""
    return get_settings().ENGINE_DATABASE or alias


def engine_aliases(alias: str) -> list[str]:
    """All aliases by which the engine comes to the jobs' database ``alias``."""
    others = {get_settings().ENGINE_DATABASE, get_settings().DIRECT_DATABASE} - {alias}
    return [alias, *sorted(name for name in others if name)]


def slot_aliases(alias: str) -> list[str]:
    """The aliases that jobs borrow connections of: all but those that only the engine uses."""
    own = engine_aliases(alias)[1:]
    return [name for name in postgresql_aliases() if name not in own]


def pool_size(slots: int) -> int:
    """How many connections to one database the slots hold at once, at most."""
    return max(SMALLEST_POOL, min(slots, get_settings().SLOT_CONNECTIONS or slots))


def count_connections(alias: str, slots: int) -> int:
    """How many connections a worker holds at once, at most, over all aliases."""
    return ENGINE_SESSIONS + pool_size(slots) * len(slot_aliases(alias))


def switch_on_pools(slots: int) -> None:
    """Let slots borrow connections, of a pool for each database, and notice servers that vanish."""
    for alias in postgresql_aliases():
        database = connections.settings[alias]
        options = database.setdefault("OPTIONS", {})
        for name, patience in NETWORK_PATIENCE.items():
            options.setdefault(name, patience)
        if not options.get("pool"):
            options["pool"] = {
                "min_size": 0,
                "max_size": pool_size(slots),
                "max_idle": IDLE_SECONDS,
                "timeout": LONGEST_WAIT,
            }
        database["CONN_MAX_AGE"] = 0
        database["CONN_HEALTH_CHECKS"] = True


def name_sessions(worker_id: int) -> None:
    """Name all sessions opened from now on. Those of a lost worker were ended by who said so."""
    for alias in postgresql_aliases():
        connections.settings[alias]["OPTIONS"]["application_name"] = session_name(worker_id)
        pooled: Any = connections.create_connection(alias)
        if pooled.pool is not None:
            pooled.pool.kwargs["application_name"] = session_name(worker_id)


def own_wrapper(alias: str) -> BaseDatabaseWrapper:
    """A Django connection outside the pool that stands for ``alias``, by the engine's own."""
    return _wrapper(engine_alias(alias), stands_for=alias)


def _wrapper(source: str, *, stands_for: str) -> BaseDatabaseWrapper:
    database = connections.settings[source]
    options = {key: value for key, value in database["OPTIONS"].items() if key != "pool"}
    options["isolation_level"] = psycopg.IsolationLevel.READ_COMMITTED
    backend: Any = load_backend(database["ENGINE"])
    wrapper_class = type("EngineWrapper", (LimitedWrapper, backend.DatabaseWrapper), {})
    wrapper: BaseDatabaseWrapper = wrapper_class({**database, "OPTIONS": options}, stands_for)
    return wrapper


class LimitedWrapper:
    """What makes a Django connection one whose statements and pauses the server ends in time."""

    connection: Any

    def init_connection_state(self) -> None:
        super().init_connection_state()  # type: ignore[misc]  # the backend's, by inheritance
        if not is_pooled(self.connection):
            limit_session(self.connection)


def limit_session(connection: psycopg.Connection[Any]) -> None:
    """Have the server end what takes too long: nothing of the engine's own ever should."""
    statement, idle = get_settings().session_limits
    connection.execute(
        "select set_config('statement_timeout', %s, false), "
        "set_config('idle_in_transaction_session_timeout', %s, false)",
        [f"{statement}ms", f"{idle}ms"],
    )


def use_own_connection(alias: str) -> None:
    """Give the calling thread a connection outside the pool, for the ORM as well."""
    connections[alias] = own_wrapper(alias)


class LastingCursor(psycopg.Cursor[Any]):
    """A cursor that is used again after it was closed."""

    def close(self) -> None:
        pass


class Session(psycopg.Connection[Any]):
    """A session of one thread at a time, with one cursor for all its statements.

    Making a cursor costs as much as the rest of a step's bookkeeping.
    """

    _cursor: LastingCursor | None = None

    def cursor(self, *args: Any, **options: Any) -> Any:
        if self._cursor is None:
            self._cursor = super().cursor(*args, **options)
        return self._cursor


def connect(alias: str) -> psycopg.Connection[Any]:
    """A plain psycopg session by this very alias, in autocommit, with server-side parameters.

    Statements are prepared when they recur, unless a pooler stands between. All find their rows by
    key: a plan kept from when the tables were small must not scan them when they have grown. Nobody
    waits long for a lock: the writer has others to write for.
    """
    params = _wrapper(alias, stands_for=alias).get_connection_params()
    params |= {"cursor_factory": LastingCursor, "autocommit": True}
    connection = Session.connect(**params)
    if is_pooled(connection):
        connection.prepare_threshold = None
    else:
        connection.execute(BY_KEY_IN_ORDER, prepare=False)
        connection.execute("set lock_timeout to '250ms'")
        limit_session(connection)
        connection.prepare_threshold = 1  # at 0, each failure of a first run leaves a statement
    return connection


BY_KEY_IN_ORDER = """
set enable_seqscan to off; set enable_hashjoin to off; set enable_mergejoin to off;
set plan_cache_mode to force_generic_plan
"""
"""Whatever a statement is given is looked up by key, one after the other: so it locks, too.

A plan for the very arrays at hand might read a whole index instead, of a table that seems small.
"""


def is_pooled(connection: Any) -> bool:
    """Whether a pooler stands between: then the server process is not the one that greeted us."""
    row = connection.execute("select pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


@dataclass(frozen=True, slots=True)
class SlotSessions:
    """What the engine found out about the sessions that jobs borrow."""

    is_pooled: bool
    role: str
    may_be_ended: bool
    """Whether the engine's role may end them, once their worker is lost."""

    @property
    def end_with_worker(self) -> bool:
        """Whether whoever declares the worker lost ends them; if not, the server has to."""
        return self.may_be_ended and not self.is_pooled


def look_at_slots(alias: str) -> SlotSessions:
    """Open a session as jobs do, and ask the engine's own role what it may do to it."""
    with connect(alias) as lent, connect(engine_alias(alias)) as own:
        _, role = read_place(lent)
        return SlotSessions(is_pooled(lent), role, not find_protected_roles(own, [role]))


def find_strays(alias: str) -> list[str]:
    """The aliases meant for the jobs' database ``alias`` that lead elsewhere.

    Raises: psycopg.Error if one of them does not answer.
    """
    return [name for name in engine_aliases(alias)[1:] if _differ(alias, name)]


def _differ(alias: str, other: str) -> bool:
    """Looks twice: the server may have been started anew between."""
    return not _are_same(alias, other) and not _are_same(alias, other)


def _are_same(alias: str, other: str) -> bool:
    if connections[other].vendor != "postgresql":
        return False
    with connect(alias) as first, connect(other) as second:
        return read_place(first)[0] == read_place(second)[0]
