"""System checks: what is wrong with the settings, the tasks and the database, with the cure.

==============  ====================================================================
durable.E001    DURABLE has an unknown key or a value of the wrong kind
durable.E002    the jobs' database is not PostgreSQL 15 or newer (database check)
durable.E003    two functions declare one task path
durable.E004    the jobs' database has AUTOCOMMIT off
durable.E005    USE_TZ is off
durable.E006    a provider that DURABLE["CONTEXT"] names cannot be loaded
durable.E007    an alias of the engine leads to another database (database check)
durable.W001    the connection pool is smaller than a worker's default slots
durable.W002    jobs live on another database than the business models
==============  ====================================================================
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from django_durable.conf import find_problems, get_settings
from django_durable.engine import registry
from django_durable.engine.boot import STRAYS_HINT, describe_strays
from django_durable.engine.context import load_provider
from django_durable.engine.migrating import wait_for_turn
from django_durable.engine.sessions import find_strays, pool_size

OLDEST_POSTGRESQL = 15
DEFAULT_SLOTS = 16
_OWN_LABEL = "durable"
_NEUTRAL = frozenset({_OWN_LABEL, "contenttypes", "auth", "sessions", "admin", "sites", "messages"})


def configured_options() -> object:
    return getattr(settings, "DURABLE", {})


@checks.register("durable")
def check_settings(**_: Any) -> list[CheckMessage]:
    hint = "The settings reference lists every key of DURABLE with its type and default."
    return [
        checks.Error(problem, hint=hint, id="durable.E001")
        for problem in find_problems(configured_options())
    ]


@checks.register("durable")
def check_tasks(**_: Any) -> list[CheckMessage]:
    return [
        checks.Error(str(conflict), hint="Paths name stored jobs.", id="durable.E003")
        for conflict in registry.get_conflicts()
    ]


@checks.register("durable")
def check_database_settings(**_: Any) -> list[CheckMessage]:
    if find_problems(configured_options()):
        return []
    alias = get_settings().DATABASE
    database = settings.DATABASES[alias]
    found: list[CheckMessage] = []
    if database.get("AUTOCOMMIT") is False:
        found.append(
            checks.Error(
                f"DATABASES[{alias!r}] has AUTOCOMMIT: False.",
                hint="A checkpoint must be committed when it is saved; remove the option.",
                id="durable.E004",
            )
        )
    if not settings.USE_TZ:
        found.append(
            checks.Error(
                "USE_TZ is False.",
                hint="Due times are instants; set USE_TZ = True.",
                id="durable.E005",
            )
        )
    pool = database.get("OPTIONS", {}).get("pool")
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size", options.get("min_size", 4)) if pool else None
    if size is not None and size < pool_size(DEFAULT_SLOTS):
        found.append(
            checks.Warning(
                f"The pool of {alias!r} has {size} connections, a worker {DEFAULT_SLOTS} slots.",
                hint="Slots may wait for connections: raise max_size or lower --slots.",
                id="durable.W001",
            )
        )
    return found


@checks.register("durable")
def check_context(**_: Any) -> list[CheckMessage]:
    """Imports each provider, as the first enqueueing would."""
    if find_problems(configured_options()):
        return []
    found: list[CheckMessage] = []
    for name, path in get_settings().CONTEXT.items():
        try:
            load_provider(name, path)
        except ImproperlyConfigured as error:
            hint = "It is the path of an object or a class with capture() and restore(value)."
            found.append(checks.Error(str(error), hint=hint, id="durable.E006"))
    return found


@checks.register("durable")
def check_models_share_database(**_: Any) -> list[CheckMessage]:
    """Atomic steps are exactly-once only for models on the jobs' own database."""
    if find_problems(configured_options()):
        return []
    alias = get_settings().DATABASE
    elsewhere = sorted(
        model._meta.label
        for model in apps.get_models()
        if model._meta.app_label not in _NEUTRAL and model._meta.managed
        if router.db_for_write(model) != alias
    )
    if not elsewhere:
        return []
    shown = ", ".join(elsewhere[:5]) + (" ..." if len(elsewhere) > 5 else "")
    return [
        checks.Warning(
            f"Jobs live on {alias!r}, but these models are written elsewhere: {shown}.",
            hint="Enqueueing and atomic steps commit together only with models on that database.",
            id="durable.W002",
        )
    ]


@checks.register("durable", checks.Tags.database)
def check_database(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Touches the database, so it runs with ``check --database`` and before ``migrate``.

    Before ``migrate`` it also waits until no other host migrates.
    """
    if find_problems(configured_options()):
        return []
    alias = get_settings().DATABASE
    if not databases or alias not in databases:
        return []
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return [_wrong_database(alias, f"is {connection.display_name}")]
    major = connection.get_database_version()[0]
    if major < OLDEST_POSTGRESQL:
        return [_wrong_database(alias, f"runs PostgreSQL {major}")]
    wait_for_turn(alias)
    return _check_aliases(alias)


def _check_aliases(alias: str) -> list[CheckMessage]:
    try:
        strays = find_strays(alias)
    except psycopg.Error as error:
        return [checks.Error(f"{error}".strip(), hint=STRAYS_HINT, id="durable.E007")]
    if not strays:
        return []
    return [checks.Error(describe_strays(strays, alias), hint=STRAYS_HINT, id="durable.E007")]


def _wrong_database(alias: str, what: str) -> CheckMessage:
    return checks.Error(
        f"The jobs' database {alias!r} {what}.",
        hint=f"django_durable needs PostgreSQL {OLDEST_POSTGRESQL} or newer.",
        id="durable.E002",
    )
