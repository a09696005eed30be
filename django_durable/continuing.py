"""Endless jobs: a job that starts itself over with new arguments and an empty history.

>>> @task
... def watch(since: datetime) -> None:
...     latest = import_changes(since)
...     sleep(timedelta(minutes=5))
...     continue_as(latest)

It stays the same job: its id, its messages and its key. What its earlier life recorded is deleted.
"""

from typing import Any, NoReturn

from asgiref.sync import sync_to_async

from django_durable.engine import intake
from django_durable.engine.run import Ending, Run, Stop
from django_durable.engine.waiting import require_wait
from django_durable.exceptions import ContinueInBranchError


def continue_as(*args: Any, **kwargs: Any) -> NoReturn:
    """Start this job over with these arguments, once its function has unwound.

    The history is deleted, compensations with it; messages not taken yet stay. ``max_attempts``
    counts anew. A request to cancel that came before ends the job instead.

    Raises: EnqueueError for arguments that cannot be; WaitOutsideJobError, WaitInStepError,
    StepInTransactionError, ContinueInBranchError where it is misplaced; else Suspension.
    """
    run = _require_root()
    run.stop(Ending(stop=Stop.CONTINUED, arguments=intake.encode_call(run.task, args, kwargs)))


async def acontinue_as(*args: Any, **kwargs: Any) -> NoReturn:
    await sync_to_async(continue_as, thread_sensitive=True)(*args, **kwargs)
    raise AssertionError  # the call above never returns


def _require_root() -> Run:
    run = require_wait("continue_as()")
    if run.scope is not run.history.root:
        raise ContinueInBranchError(path=run.scope.path)
    return run
