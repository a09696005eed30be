"""Events: what the outside tells jobs.

>>> send_event(job, "approved", {"by": "anna"})         # to one job: a mailbox
>>> emit_event(f"rates/{day}", rates)                   # to all who wait for this key

Both write in the caller's transaction: nothing is seen before its commit, nothing is left after a
rollback. In a job they are exactly-once; in an atomic step they commit with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable.conf import get_settings
from django_durable.engine import instances
from django_durable.engine.delivering import deliver, name_call, was_sent
from django_durable.engine.finding import find_job, id_of
from django_durable.engine.options import check_event_key, check_key
from django_durable.engine.replay import check_name
from django_durable.engine.waits import NewEvent, NewMessage
from django_durable.exceptions import InvalidOptionError, JobStateError

if TYPE_CHECKING:
    from django_durable.models import Job


def send_event(
    job: Job | UUID | str,
    name: str,
    payload: Any = None,
    *,
    idempotency_key: str | None = None,
) -> None:
    """Put an event into a job's mailbox, where ``wait_for_event(name)`` takes it from.

    A job takes the events of a name in the order of the sends' commits, each once; one that comes
    before the wait is kept. The same ``idempotency_key`` is sent to a job only once, and a repeated
    send of it is no error, whatever has become of the job.

    Raises: JobNotFoundError; JobStateError if the job is finished; InvalidOptionError;
    NotSerializableError, PayloadTooLargeError; nothing is written then.
    """
    check_name(name, what="event")
    if idempotency_key is not None and (problem := check_key(idempotency_key)):
        raise InvalidOptionError(option="idempotency_key", value=idempotency_key, reason=problem)
    job_id, text = id_of(job), _encode(payload)
    key = idempotency_key or name_call(f"send:{name}")
    if key is not None and was_sent(job_id, key):
        return
    target = find_job(job_id)
    if target.is_finished:
        raise JobStateError(
            job_id=target.pk,
            task_path=target.task_path,
            verb="sent an event",
            state=target.state,
            cure="A finished job takes no more events.",
        )
    message = NewMessage(job_id=target.pk, name=name, payload=text, idempotency_key=key)
    deliver("send_event()", [message])


def emit_event(key: str, payload: Any = None) -> None:
    """Say something to every job that waits for this key, now or later.

    The first emit of a key stands, and later ones change nothing. Events are kept for
    ``DURABLE["RETENTION"]["EVENT"]``.

    Raises: InvalidOptionError; NotSerializableError, PayloadTooLargeError.
    """
    if problem := check_event_key(key):
        raise InvalidOptionError(option="key", value=key, reason=problem)
    deliver("emit_event()", [NewEvent(key=key, payload=_encode(payload))])


def _encode(payload: Any) -> str:
    limit = get_settings().MAX_PAYLOAD_BYTES
    return instances.encode(payload, path="the payload", limit=limit)


async def asend_event(
    job: Job | UUID | str,
    name: str,
    payload: Any = None,
    *,
    idempotency_key: str | None = None,
) -> None:
    await sync_to_async(send_event, thread_sensitive=True)(
        job, name, payload, idempotency_key=idempotency_key
    )


async def aemit_event(key: str, payload: Any = None) -> None:
    await sync_to_async(emit_event, thread_sensitive=True)(key, payload)
