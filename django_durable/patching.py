"""Changing a task while its jobs are alive: the new way for those that can still go it.

>>> if patched("check-address"):
...     check_address(order)          # jobs that have not come past this place

The answer is recorded, so each job stays on its way. When no job of the old way is alive any more,
the call and the old way are deleted; what was recorded for it is ignored from then on.
"""

from datetime import timedelta

from asgiref.sync import sync_to_async
from django.utils.asyncio import async_unsafe

from django_durable.engine.checkpoints import NewCheckpoint
from django_durable.engine.replay import PATCH, SUCCESSFUL, ReplayMismatch, Scope, check_name
from django_durable.engine.run import Run
from django_durable.engine.waiting import require_place


@async_unsafe("On an event loop use: await apatched(...).")
def patched(name: str) -> bool:
    """Whether this job goes the new way: True unless it has recorded what comes behind this place.

    True is recorded under the name, so that it stays True. Outside a job: True. The n-th call of a
    name in a job, or in a branch, has an answer of its own.

    Raises: TaskDefinitionError for a bad name; WaitInStepError; StepInTransactionError.
    """
    check_name(name, what="patch")
    call = f'patched("{name}")'
    run = require_place(call)
    if run is None:
        return True
    scope = run.scope
    scope.enter(call)
    try:
        return _decide(run, scope, f"patch:{name}")
    finally:
        scope.leave()


async def apatched(name: str) -> bool:
    return await sync_to_async(patched, thread_sensitive=True)(name)


def _decide(run: Run, scope: Scope, name: str) -> bool:
    identity = scope.identify(name)
    if identity in run.history.records:
        try:
            run.history.find(scope, identity, kind=PATCH, fingerprint=None)
        except ReplayMismatch as mismatch:
            run.block(mismatch)
        return True
    if scope.is_replaying():
        return False
    run.save(_marker(run, identity))
    return True


def _marker(run: Run, identity: str) -> NewCheckpoint:
    return NewCheckpoint(
        job_id=run.job.id,
        lease_token=run.job.lease_token,
        identity=identity,
        seq=run.history.next_seq(),
        kind=PATCH,
        state=SUCCESSFUL,
        function="patched()",
        fingerprint=None,
        attempt=1,
        elapsed=timedelta(0),
        value="true",
    )
