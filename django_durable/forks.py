"""Second chances: a new job that keeps what another did before a step, or that starts it over.

>>> fork_job(job, from_step="charge#2")       # what came before it is not done again
>>> restart_job(job, order, express=True)     # from the top, with other arguments
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import codec, enqueueing, finding, forking, instances, intake, registry
from django_durable.engine.options import check_options
from django_durable.engine.replay import COMPENSATION, FORK
from django_durable.engine.rows import checkpoints as checkpoint_rows
from django_durable.engine.states import CheckpointState
from django_durable.exceptions import ForkPointError, InvalidArgumentsError, JobNotFoundError

if TYPE_CHECKING:
    from django_durable.models import Checkpoint, Job

MOST_NAMED = 50
"""So many identities are named to who gave one that does not exist."""


def fork_job(
    job: Job | UUID | str, *, from_step: str, deadline: datetime | timedelta | None = None
) -> Job:
    """A new job of the same call that goes on from a step of another, whatever became of that.

    ``from_step`` is the identity of a checkpoint, such as ``charge#2``. The outcomes of all steps
    and waits that began before it are copied; it and what followed is done anew. The other job
    stays as it is. Has no deadline unless one is given. One statement, in the caller's transaction.

    Raises: JobNotFoundError; ForkPointError if there is no such checkpoint, or one before it is
    undone by its compensation; InvalidOptionError.
    """
    check_options({"deadline": deadline}, allowed=("deadline",))
    times = {"deadline": deadline} if isinstance(deadline, timedelta) else {"deadline_at": deadline}
    source_id = finding.id_of(job)
    new = _copied(source_id, from_step=from_step, **times)
    if new is None:
        raise _explain(source_id, from_step)
    return new


async def afork_job(
    job: Job | UUID | str, *, from_step: str, deadline: datetime | timedelta | None = None
) -> Job:
    fork = sync_to_async(fork_job, thread_sensitive=True)
    return await fork(job, from_step=from_step, deadline=deadline)


def restart_job(job: Job | UUID | str, /, *args: Any, **kwargs: Any) -> Job:
    """A new job of the same task that begins from the top; the other one stays as it is.

    With arguments given these are its call, checked as by ``enqueue``; without, the stored ones.

    Raises: JobNotFoundError; EnqueueError, having written nothing.
    """
    if not (args or kwargs):
        return _restarted(finding.id_of(job), None)
    source = finding.find_job(finding.id_of(job))
    return _restarted(
        source.pk, intake.encode_call(registry.get_task(source.task_path), args, kwargs)
    )


async def arestart_job(job: Job | UUID | str, /, *args: Any, **kwargs: Any) -> Job:
    return await sync_to_async(restart_job, thread_sensitive=True)(job, *args, **kwargs)


def restart_with_text(job_id: UUID | str, text: str) -> Job:
    """``restart_job`` with arguments as they are stored: ``{"args": [...], "kwargs": {...}}``.

    Raises: JobNotFoundError; EnqueueError; MissingInstanceError.
    """
    source = finding.find_job(job_id)
    task = registry.get_task(source.task_path)
    try:
        given = instances.read_arguments(text, task.signature)
    except codec.UndecodableError as error:
        raise InvalidArgumentsError(path=task.path, reason=str(error).rstrip(".")) from error
    return _restarted(source.pk, intake.encode_call(task, tuple(given.args), given.kwargs))


def _restarted(source_id: UUID, arguments: str | None) -> Job:
    made = _copied(source_id, arguments=arguments)
    if made is None:
        raise JobNotFoundError(job_id=source_id)
    return made


def _copied(source_id: UUID, **how: Any) -> Job | None:
    alias = get_settings().DATABASE
    copy = forking.Copy(id=enqueueing.uuid7(), source_id=source_id, **how)
    return finding.find_job(copy.id) if forking.copy_job(connections[alias], copy) else None


def _explain(source_id: UUID, from_step: str) -> ForkPointError:
    """Why there is no such place. Raises: JobNotFoundError."""
    source = finding.find_job(source_id)
    rows = checkpoint_rows(get_settings().DATABASE).filter(job_id=source_id).order_by("seq")
    known = [row for row in rows if row.kind != FORK and not row.identity.startswith(COMPENSATION)]
    here = next((row for row in known if row.identity == from_step), None)
    undone = next((row for row in known if _is_undone(row, source)), None)
    if here is not None and undone is not None:
        reason = f"{undone.identity} before it is undone by its compensation. Fork from there."
    else:
        names = ", ".join(row.identity for row in known[:MOST_NAMED]) or "none"
        more = ", and more" if len(known) > MOST_NAMED else ""
        reason = f"there is no such checkpoint. Those it has: {names}{more}."
    return ForkPointError(
        job_id=source_id, task_path=source.task_path, step=from_step, reason=reason
    )


def _is_undone(row: Checkpoint, source: Job) -> bool:
    """Whether a step's effect is taken back, or is going to be."""
    will_be = row.compensation is not None and source.ends_as is not None
    return row.state == CheckpointState.COMPENSATED or will_be
