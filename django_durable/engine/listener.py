"""The thread that keeps a worker alive and awake.

It holds the advisory lock on a direct session, sends the heartbeats, and listens for NOTIFY, which
is a hint only: polling finds everything, a little later. When the session drops it opens another at
once; until the lock is taken again the heartbeats say so, and come twice a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django_durable.engine import liveness
from django_durable.engine.clock import machine_seconds
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.sessions import connect, is_pooled

if TYPE_CHECKING:
    import psycopg

    from django_durable.engine.run import Writer

logger = logging.getLogger("django_durable")

BEATS_PER_LEASE = 5
UNLOCKED_SECONDS = 0.5
LONGEST_MARGIN = 2.0


@dataclass(slots=True)
class Lease:
    """How long this worker's claims are surely its own, on the machine's clock.

    Counted from when the last answered heartbeat was sent, less a margin of 2 s (of short leases,
    a third), so that it ends before anybody else can see it end.
    """

    duration: timedelta
    good_until: float = 0.0

    @property
    def margin(self) -> float:
        return min(LONGEST_MARGIN, self.duration.total_seconds() / 3)

    def renew(self, sent_at: float) -> None:
        self.good_until = sent_at + self.duration.total_seconds() - self.margin

    def is_fresh(self) -> bool:
        return machine_seconds() < self.good_until


@dataclass(slots=True, kw_only=True)
class Hooks:
    """What the listener tells the worker."""

    woken: Callable[[str | None], None]
    """There may be something to do in this queue; None: in any."""
    cancelled: Callable[[list[UUID]], None]
    """Cancelling was asked for, of these running jobs."""
    lost: Callable[[], None]
    """This worker was declared lost."""


@dataclass(slots=True, kw_only=True, eq=False)
class Listener:
    """Heartbeats, the lock, and notifications of one registered worker."""

    worker_id: int
    lease: Lease
    alias: str
    writer: Writer
    hooks: Hooks
    listens: bool = True
    backlogged: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    _connection: psycopg.Connection[Any] | None = None
    _has_lock: bool = False
    _is_direct: bool = True

    def start(self) -> None:
        threading.Thread(target=self._run, name="durable-listener", daemon=True).start()

    def stop(self) -> None:
        """End the thread; the session, and with it the lock, ends when the process does."""
        self.stopped.set()

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._ensure_session()
                if not self._beat():
                    self._tell_lost()
                    break
                self._wait()
            except DATABASE_ERRORS as error:
                self._drop_session(error)
        self._close_session()

    def _ensure_session(self) -> None:
        if self._connection is None:
            self._connection = connect(self.alias)
            self._is_direct = not is_pooled(self._connection)
            if not self._is_direct:
                logger.warning("A pooler is in the way: no LISTEN, no lock; polls and leases only.")
            elif self.listens:
                self._connection.execute("listen durable")
        if self._is_direct and not self._has_lock:
            self._has_lock = liveness.take_lock(self._connection, self.worker_id)

    def _beat(self) -> bool:
        """Send a heartbeat, act on the answer; False if this worker was declared lost."""
        sent_at = machine_seconds()
        connection = self._connection
        beat = self._send(connection) if connection is not None else self.writer.call(self._send)
        if not beat.alive:
            self.lease.good_until = 0.0
            return False
        self.lease.renew(sent_at)
        if beat.cancelled:
            self.hooks.cancelled(beat.cancelled)
        return True

    def _send(self, connection: Any) -> liveness.Beat:
        return liveness.heartbeat(
            connection,
            worker_id=self.worker_id,
            has_lock=self._has_lock,
            backlogged=self.backlogged,
        )

    def _wait(self) -> None:
        """Until the next heartbeat is due; notifications are passed on meanwhile."""
        pause = self.lease.duration.total_seconds() / BEATS_PER_LEASE
        if self._is_direct and not self._has_lock:
            pause = min(pause, UNLOCKED_SECONDS)
        until = machine_seconds() + pause
        if not (self.listens and self._is_direct and self._connection is not None):
            self.stopped.wait(pause)
            return
        while (left := until - machine_seconds()) > 0 and not self.stopped.is_set():
            for notification in self._connection.notifies(timeout=left, stop_after=1):
                self.hooks.woken(notification.payload or None)

    def _drop_session(self, error: BaseException) -> None:
        """The session died: say so at once over another one, and try again soon."""
        logger.warning("The listening session ended: %s", error)
        self._close_session()
        try:
            self._ensure_session()
        except DATABASE_ERRORS:
            self._close_session()
            self.stopped.wait(UNLOCKED_SECONDS)
            if not self.stopped.is_set() and not self._beat():
                self._tell_lost()
                self.stopped.set()

    def _tell_lost(self) -> None:
        """Unless the worker knows, and may have registered anew meanwhile."""
        if not self.stopped.is_set():
            self.hooks.lost()

    def _close_session(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._has_lock = None, False
