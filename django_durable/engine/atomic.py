"""Atomic steps: the body's writes and its checkpoint are one commit, so both are there or neither.

The lease is checked and held, and the checkpoint inserted, as the last statement before COMMIT: a
long body blocks neither cancelling nor recovery, and none commits after its job was taken over.
Whatever goes wrong, the own checkpoint is looked for first: if it is there, it committed.
"""

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import connections, transaction

from django_durable.engine.checkpoints import NewCheckpoint, read_checkpoint, save_checkpoints
from django_durable.engine.faults import is_connection_error, is_repeatable
from django_durable.engine.preparing import note_direct, prepared
from django_durable.engine.replay import SUCCESSFUL, Recorded
from django_durable.engine.run import Ending, Run, Stop, active_step
from django_durable.engine.stepping import Call, close, encode_value
from django_durable.engine.waits import NewEvent, NewMessage, Sender, SenderLost, deliver
from django_durable.exceptions import Suspension

T = TypeVar("T")
logger = logging.getLogger("django_durable")

REPEATS = 5
"""How often 40001 and 40P01 are repeated at once; it costs no try."""


class Rollback(Exception):  # noqa: N818 (control flow: undoes the body's writes, is no failure)
    """Raised inside a transaction of the engine's to leave it without a trace."""


class LeaseLost(Rollback):
    pass


class Adopted(Rollback):
    """The step was recorded before, by a commit whose answer was lost."""

    def __init__(self, record: Recorded, *, cancelled: bool) -> None:
        self.record = record
        self.cancelled = cancelled


def run_atomic(call: Call, body: Callable[[], Any]) -> Recorded:
    """Run the body in a transaction that also saves its checkpoint; the record.

    Raises: what the body raises, after which nothing of it is written; Suspension.
    """
    try:
        record, cancelled = repeat_transaction(
            call.run, lambda: _try(call, body), lambda error: _find_committed(call, error)
        )
    except Adopted as adopted:
        record, cancelled = adopted.record, adopted.cancelled
    except LeaseLost:
        call.run.stop(Ending(stop=Stop.LEASE_LOST))
    call.run.settle(record, cancelled=cancelled)
    return record


def repeat_transaction(
    run: Run, attempt: Callable[[], T], find_committed: Callable[[BaseException], T | None]
) -> T:
    """Run a transaction of the engine's until it is committed or its body fails.

    40001 and 40P01 are repeated at once, a few times; a transaction whose connection died, as long
    as the lease holds. ``find_committed`` looks, after any error, whether it did commit.
    """
    repeats = 0
    while True:
        token = _session.set(None)
        try:
            return attempt()
        except (Suspension, Rollback):
            raise
        except BaseException as error:  # user code may raise anything
            committed = find_committed(error)
            if committed is not None:
                return committed
            repeats += is_repeatable(error)
            if not has_died(error) and not (is_repeatable(error) and repeats <= REPEATS):
                raise
        finally:
            _session.reset(token)
        run.check()
        run.check_may_start()


_session: ContextVar[Any] = ContextVar("durable_session", default=None)
"""The session of the engine's transaction under way."""


def has_died(error: BaseException) -> bool:
    """Whether it is this transaction's own session that was lost, or could not be opened."""
    session = _session.get()
    return (session is None or session.closed) and is_connection_error(error)


def begin(run: Run) -> Any:
    """First thing in a transaction of the engine's; the connection for its own statement.

    Behind a pooler nobody can end the sessions of the dead: the server does, after a lease.
    """
    connection: Any = connections[run.alias]
    _session.set(connection.connection)
    if run.session_timeout is not None:
        milliseconds = int(run.session_timeout * 1000)
        with connection.cursor() as cursor:
            cursor.execute(
                "set local idle_in_transaction_session_timeout = %s", [f"{milliseconds}ms"]
            )
    if run.prepares:
        note_direct(connection.connection, is_direct=True)
    return prepared(connection)


def _try(call: Call, body: Callable[[], Any]) -> tuple[Recorded, bool]:
    active = active_step()
    assert active is not None  # an atomic body runs as a step
    active.outbox.clear()
    active.calls.clear()
    with transaction.atomic(using=call.run.alias):
        connection = begin(call.run)
        value = body()
        close(call)
        checkpoint = call.checkpoint(SUCCESSFUL, value=encode_value(call, value))
        deliver_all(connection, call.run, active.outbox)
        cancelled = save_in_transaction(connection, checkpoint)
    return checkpoint.as_recorded(), cancelled


class Kept:
    """Events to write with the commit, unless the savepoint in which they were said is undone.

    Django forgets what is to be called on commit with the savepoint, so it stands there, too.
    """

    def __init__(self, items: Sequence[NewEvent | NewMessage]) -> None:
        self.items = items

    def __call__(self) -> None:
        """Nothing is left to be done on commit."""


def keep(alias: str, outbox: list[Kept], items: Sequence[NewEvent | NewMessage]) -> None:
    """Put events into the outbox of the engine's transaction that is open."""
    kept = Kept(items)
    outbox.append(kept)
    transaction.on_commit(kept, using=alias)


def deliver_all(connection: Any, run: Run, outbox: list[Kept]) -> None:
    """Write what the body emitted and sent, after all that it wrote itself. Raises: LeaseLost."""
    if not outbox:
        return
    wrapper: Any = connections[run.alias]
    standing = {id(called) for _, called, _ in wrapper.run_on_commit}
    items = [item for kept in outbox if id(kept) in standing for item in kept.items]
    wrapper.run_on_commit = [one for one in wrapper.run_on_commit if not isinstance(one[1], Kept)]
    if not items:
        return
    try:
        deliver(connection, items, Sender(run.job.id, run.job.lease_token))
    except SenderLost:
        raise LeaseLost from None


def save_in_transaction(connection: Any, checkpoint: NewCheckpoint) -> bool:
    """Fence and insert, the last statement of a transaction; whether cancelling was asked for."""
    (saved,) = save_checkpoints(connection, [checkpoint])
    if not saved.held:
        raise LeaseLost
    if not saved.saved:
        record = read_checkpoint(connection, checkpoint.job_id, checkpoint.identity)
        if record is None:
            raise LeaseLost
        raise Adopted(record, cancelled=saved.cancelled)
    return saved.cancelled


def _find_committed(call: Call, error: BaseException) -> tuple[Recorded, bool] | None:
    """The own checkpoint, if the transaction committed before the error was raised."""
    record = call.run.read(call.identity)
    if record is None or not record.is_final:
        return None
    say_committed(f"Step {call.identity} of job {call.run.job.id}", call.run, error)
    return record, False


def say_committed(what: str, run: Run, error: BaseException) -> None:
    logger.error(
        "%s committed, then raised (an on_commit callback, or a lost answer); it stands.",
        what,
        exc_info=error,
        extra={"job_id": str(run.job.id), "task_path": run.job.task_path},
    )
