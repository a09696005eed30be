"""One registration of a process as a worker, and everything that lives as long as it.

A process registers when it starts, and again if it was declared lost: with a new id, new sessions
under that name, and a new lease, so that nothing of the old life can be mistaken for the new one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import boot, claims, liveness, registry, sessions
from django_durable.engine.claiming import Claimer
from django_durable.engine.listener import Hooks, Lease, Listener
from django_durable.engine.maintenance import Maintenance
from django_durable.engine.serving import Serving
from django_durable.engine.slots import Slots
from django_durable.engine.writer import GroupWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker is told. ``queues``: names and patterns; empty: all it meets."""

    queues: Sequence[str] = ()
    slots: int = 16
    burst: bool = False
    grace: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=15)
    poll_interval: timedelta = timedelta(seconds=1)
    listens: bool = True
    max_jobs: int | None = None
    max_memory: int | None = None
    """In bytes."""

    @property
    def serving(self) -> Serving:
        """The queues it serves, of those in the settings. Raises: InvalidOptionError."""
        return Serving.of(self.queues, known=get_settings().QUEUES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Membership:
    """A registered worker."""

    worker_id: int
    code_version: str
    lease: Lease
    listener: Listener
    claimer: Claimer
    maintenance: Maintenance

    def end(self) -> None:
        """Send no more heartbeats; what was claimed under this name is no longer sure."""
        self.lease.good_until = 0.0
        self.listener.stop()


def join(
    options: WorkerOptions,
    alias: str,
    *,
    slots: Slots,
    writer: GroupWriter,
    hooks: Hooks,
    wake: Callable[[], None],
) -> Membership:
    """Register, open the engine's sessions under the new name, and start the heartbeats."""
    code_version = boot.code_version()
    worker_id = liveness.register_worker(alias, _registration(options, code_version))
    sessions.name_sessions(worker_id)
    connections[alias].close()
    sessions.use_own_connection(alias)
    writer.reconnect()
    lease = Lease(options.lease)
    listener = Listener(
        worker_id=worker_id,
        lease=lease,
        alias=get_settings().DIRECT_DATABASE or sessions.engine_alias(alias),
        writer=writer,
        listens=options.listens,
        hooks=hooks,
    )
    listener.start()
    return Membership(
        worker_id=worker_id,
        code_version=code_version,
        lease=lease,
        listener=listener,
        claimer=Claimer(
            claimant=_claimant(worker_id, alias, code_version),
            slots=slots,
            listener=listener,
            serving=options.serving,
            poll_interval=options.poll_interval.total_seconds(),
        ),
        maintenance=Maintenance(
            connection=connections[alias],
            worker_id=worker_id,
            lease=options.lease,
            poll_interval=options.poll_interval,
            woken=wake,
        ),
    )


def _registration(options: WorkerOptions, code_version: str) -> liveness.Registration:
    serving = options.serving
    return liveness.Registration(
        hostname=socket.gethostname(),
        pid=os.getpid(),
        queues=serving.exact_names,
        queue_patterns=serving.patterns,
        slots=options.slots,
        code_version=code_version,
        lease=options.lease,
    )


def _claimant(worker_id: int, alias: str, code_version: str) -> claims.Claimant:
    return claims.Claimant(
        worker_id=worker_id,
        alias=alias,
        task_paths=registry.known_paths(),
        code_version=code_version,
        max_lost=get_settings().MAX_LOST,
    )
