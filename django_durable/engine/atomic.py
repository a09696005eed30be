"""Atomic steps: the body's writes and its checkpoint are one commit, so both are there or neither.

The lease is checked and held, and the checkpoint inserted, as the last statement before COMMIT: a
long body blocks neither cancelling nor recovery, and none commits after its job was taken over.
Whatever goes wrong, the own checkpoint is looked for first: if it is there, it committed.
"""

import logging
from collections.abc import Callable
from typing import Any

from django.db import connections, transaction

from django_durable.engine import instances
from django_durable.engine.checkpoints import NewCheckpoint, read_checkpoint, save_checkpoints
from django_durable.engine.faults import is_connection_error, is_repeatable
from django_durable.engine.replay import SUCCESSFUL, Recorded
from django_durable.engine.run import Ending, Stop
from django_durable.engine.stepping import Call, close, encode_value
from django_durable.exceptions import Suspension

logger = logging.getLogger("django_durable")

REPEATS = 5
"""How often 40001 and 40P01 are repeated at once; it costs no try."""


class Adopted(Exception):  # noqa: N818 (rolls back the body's writes; not an error)
    """The step was recorded before, by a commit whose answer was lost."""

    def __init__(self, record: Recorded, *, cancelled: bool) -> None:
        self.record = record
        self.cancelled = cancelled


class LeaseLost(Exception):  # noqa: N818 (rolls back; the run stops silently)
    pass


def run_atomic(call: Call, body: Callable[[], Any]) -> Recorded:
    """Run the body in a transaction that also saves its checkpoint; the record.

    Raises: what the body raises, after which nothing of it is written; Suspension.
    """
    repeats = 0
    while True:
        try:
            record, cancelled = _try(call, body)
            break
        except Suspension:
            raise
        except Adopted as adopted:
            record, cancelled = adopted.record, adopted.cancelled
            break
        except LeaseLost:
            call.run.stop(Ending(stop=Stop.LEASE_LOST))
        except BaseException as error:
            committed = _find_committed(call, error)
            if committed is not None:
                record, cancelled = committed, False
                break
            if is_repeatable(error) and repeats < REPEATS:
                repeats += 1
            elif not is_connection_error(error):
                raise
            call.run.check_may_start()
    call.run.settle(record, cancelled=cancelled)
    return record


def _try(call: Call, body: Callable[[], Any]) -> tuple[Recorded, bool]:
    connection = connections[call.run.alias]
    with transaction.atomic(using=call.run.alias):
        if call.run.session_timeout is not None:
            limit_idle_time(connection, call.run.session_timeout)
        value = body()
        close(call)
        checkpoint = call.checkpoint(SUCCESSFUL, value=encode_value(call, value))
        cancelled = save_in_transaction(connection, checkpoint)
    return checkpoint.as_recorded(), cancelled


def save_in_transaction(connection: Any, checkpoint: NewCheckpoint) -> bool:
    """Fence and insert, as the last statement of a transaction; whether cancelling was asked for."""
    (saved,) = save_checkpoints(connection, [checkpoint])
    if not saved.held:
        raise LeaseLost
    if not saved.saved:
        record = read_checkpoint(connection, checkpoint.job_id, checkpoint.identity)
        if record is None:
            raise LeaseLost
        raise Adopted(record, cancelled=saved.cancelled)
    return saved.cancelled


def limit_idle_time(connection: Any, seconds: float) -> None:
    """Behind a pooler nobody can end the sessions of the dead: the server does, after a lease."""
    with connection.cursor() as cursor:
        cursor.execute(
            "set local idle_in_transaction_session_timeout = %s", [f"{int(seconds * 1000)}ms"]
        )


def _find_committed(call: Call, error: BaseException) -> Recorded | None:
    """The own checkpoint, if the transaction committed before the error was raised."""
    record = call.run.read(call.identity)
    if record is None or not record.is_final:
        return None
    logger.error(
        "Step %s of job %s committed, then raised %s (an on_commit callback, or a lost answer); "
        "its checkpoint stands.",
        call.identity,
        call.run.job.id,
        instances.error_path(error),
        exc_info=error,
        extra={"job_id": str(call.run.job.id), "step": call.identity},
    )
    return record
