"""Every error of the package, and the one thing that is not an error.

::

    DurableError
    ├── TaskDefinitionError           a decorator was used in a way that cannot work
    │   └── DuplicateTaskPathError    two functions claim one task path
    ├── EnqueueError                  refused in the caller; nothing was written
    │   ├── UnknownTaskError          no task of that path in this process
    │   ├── InvalidArgumentsError     the arguments do not fit the function's signature
    │   ├── InvalidOptionError        a bad priority, queue name, key, time ...
    │   ├── NotSerializableError      what cannot be encoded, with the path inside the value
    │   ├── PayloadTooLargeError      encoded, but larger than MAX_PAYLOAD_BYTES
    │   ├── IdempotencyConflictError  the key was used with other arguments
    │   ├── NotUniqueError            a unique job is there already, and the task says to refuse
    │   ├── WrongDatabaseError        the caller's transaction is on another database
    │   ├── ChildDepthError           jobs that enqueue jobs that enqueue jobs, without end
    │   └── BulkItemError             one item of enqueue_many is refused, so all are
    ├── JobError
    │   ├── JobNotFoundError          no such job
    │   ├── JobStateError             the verb does not fit the state the job is in
    │   ├── ForkPointError            a job cannot be forked from the step that was named
    │   ├── JobRowError               a row that no enqueue could have written
    │   ├── MissingInstanceError      a model instance among the values is gone
    │   ├── ReturnValueError          what the task returned cannot be stored
    │   ├── PoisonJobError            lost its worker too often
    │   ├── NotUndoneError            ... even while its steps were being undone
    │   ├── DeadlineExceededError     not done by its deadline
    │   ├── HistoryTooLongError       needs more checkpoints than a job may have
    │   └── SuspensionSwallowedError  the task caught the exception that suspends it
    ├── WaitError
    │   ├── WaitOutsideJobError       a verb that waits, or awaits children, outside a job
    │   ├── WaitInStepError           ... or inside a step
    │   ├── ContinueInBranchError     continue_as() in a branch of gather()
    │   ├── ChildFailedError          a child that was started failed or was cancelled; recorded
    │   └── MapFailedError            more items of a map failed than may; recorded
    ├── ApprovalError
    │   ├── ApprovalRequestError      a task asks for an approval that nobody could give
    │   ├── ApprovalNotFoundError     no such approval
    │   ├── ApprovalDeniedError       this user may not answer
    │   ├── ApprovalFormError         the answer does not satisfy the form
    │   ├── UnknownFormError          the form's class is not loaded in this process
    │   └── ApprovalClosedError       answered before, timed out, or its job ended
    └── StepError
        ├── StepFailedError           a step whose tries are used up; recorded, replays
        │   ├── StepTimeoutError      ... since it took too long
        │   └── StepInterrupted       an at-most-once step died half-way; it is not run again
        ├── StepValueError            what the step returned, or is undone with, cannot be stored
        ├── StepOutsideJobError       a durable call in a worker's thread that carries no job
        ├── NoCurrentStepError        current_step() between the steps of a task
        ├── StepInTransactionError    a durable call inside a transaction of the user's
        ├── NestedStepError           an atomic or at-most-once step inside another step
        ├── DuplicateStepNameError    two functions under one step name in one job
        ├── ConcurrentStepsError      two durable calls at once in one scope
        └── AsyncStepError            a synchronous call on an event loop

    Suspension(BaseException)         unwinds the task's function; catch it and the job fails

Each error keeps the fields its message is made of, and survives pickling with them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.core import exceptions as django_exceptions


class DurableError(Exception):
    """Base of all errors of django_durable. Takes the message's fields as keywords."""

    message: ClassVar[str] = "{reason}"

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        super().__init__(self.message.format_map(fields))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(cls: type[DurableError], fields: Mapping[str, Any]) -> DurableError:
    return cls(**fields)


class TaskDefinitionError(DurableError):
    name: str
    message = 'Task or step "{name}" cannot be declared: {reason}'


class DuplicateTaskPathError(TaskDefinitionError):
    path: str
    message = (
        'Task path "{path}" is declared by both {first} and {second}. '
        "Give one of them its own: @task(path=...)."
    )


class EnqueueError(DurableError):
    pass


class UnknownTaskError(EnqueueError):
    path: str
    message = (
        'No task "{path}" is registered in this process. Is its app in INSTALLED_APPS, and is it '
        "in a module named in DURABLE['TASK_MODULES']?{hint}"
    )


class InvalidArgumentsError(EnqueueError, TypeError):
    message = 'Task "{path}" cannot be called with these arguments: {reason}.'


class InvalidOptionError(EnqueueError, ValueError):
    option: str
    message = "{option} {value!r} is refused: {reason}"


class NotSerializableError(EnqueueError, TypeError):
    path: str
    message = "{path} cannot be stored: {reason}"


class PayloadTooLargeError(EnqueueError, ValueError):
    message = (
        "{path} takes {size} bytes, more than DURABLE['MAX_PAYLOAD_BYTES'] = {limit}. "
        "Store the data in a model or a file and pass its key."
    )


class IdempotencyConflictError(EnqueueError):
    key: str
    message = (
        'Idempotency key "{key}" (scope "{scope}") was used before with other arguments'
        "{owner}. The first use stands; take a new key for a new request."
    )


class NotUniqueError(EnqueueError):
    job_id: str
    key: str
    message = "Task {task_path} is unique: job {job_id} ({state}) has the key {key!r}."


class WrongDatabaseError(EnqueueError):
    message = (
        'A transaction is open on database "{open_alias}" but jobs live on "{alias}", where none '
        "is: the job would stay if that transaction rolled back. Open one on "
        '"{alias}", or say it is meant with .using(outside_transaction=True).'
    )


class ChildDepthError(EnqueueError):
    message = (
        "Job {job_id} ({task_path}) stands below {depth} jobs, each enqueued by the one above it, "
        "and may not enqueue another: does a task enqueue itself without end? Let it work in a "
        "loop of steps, or enqueue the next round from outside jobs."
    )


class BulkItemError(EnqueueError):
    index: int
    cause: EnqueueError
    message = "Item {index} ({task_path}) is refused, so nothing was enqueued: {cause}"


class JobError(DurableError):
    pass


class JobNotFoundError(JobError):
    message = "There is no job {job_id}: never enqueued, rolled back, or pruned."


class JobStateError(JobError):
    message = "Job {job_id} ({task_path}) cannot be {verb}: it is {state}. {cure}"


class ForkPointError(JobError):
    step: str
    message = 'Job {job_id} ({task_path}) cannot be forked from "{step}": {reason}'


class JobRowError(JobError):
    message = "The row of job {job_id} ({task_path}) cannot be run: {reason}"


class MissingInstanceError(JobError):
    label: str
    message = (
        "{label} {key} does not exist (any more). "
        'Declare @task(on_missing="skip") if that is not an error.'
    )


class ReturnValueError(JobError):
    message = "Task {task_path} did its work, but what it returned is lost: {cause}"


class PoisonJobError(JobError):
    message = (
        "Job {job_id} ({task_path}) lost its worker {lost_count} times in a row without saving "
        "anything: it probably ends the process. Mend the task, then retry the job."
    )


class DeadlineExceededError(JobError):
    message = (
        "Job {job_id} ({task_path}) was not done by its deadline, {deadline_at}. "
        "If it is still wanted, retry the job: it then has no deadline."
    )


class HistoryTooLongError(JobError):
    count: int
    message = (
        "Job {job_id} ({task_path}) has {count} checkpoints, as many as DURABLE['MAX_CHECKPOINTS'] "
        "lets it have, and needs one more. Nothing is lost: raise the setting and retry the job. "
        "For good: start endless work over with continue_as(), give many items to map_task()."
    )


class NotUndoneError(JobError):
    message = "Job {job_id} ({task_path}) lost {lost_count} workers. Not undone: {steps}. {first}"


class SuspensionSwallowedError(JobError):
    message = (
        "Task {task_path} caught the Suspension raised by a step and went on. "
        "Catch Exception, not BaseException, and let Suspension pass."
    )


class WaitError(DurableError):
    pass


class WaitOutsideJobError(WaitError):
    message = (
        "{call} was called outside a job, where nothing can be suspended. Call it in a task that "
        "runs as a job; in tests: enqueue the task, then run_jobs()."
    )


class WaitInStepError(WaitError):
    message = (
        '{call} was called inside step "{step}", which would run again from its beginning. '
        "Call it from the task, between its steps."
    )


class ContinueInBranchError(WaitError):
    path: str
    message = (
        "continue_as() was called in the parallel branch {path}. It starts the whole job over: "
        "call it in the task itself, after gather()."
    )


class ChildFailedError(WaitError):
    """A child that the task awaited FAILED or was CANCELLED; the error's fields are its own."""

    child_id: str
    task_path: str
    error_type: str
    error_message: str
    message = "Child {child_id} ({task_path}) {state}: {error_type}: {error_message}"


class MapFailedError(WaitError):
    """More items failed than ``max_failures`` lets, or ``min_successes`` is out of reach."""

    failed: int
    total: int
    message = (
        "{failed} of {total} items of {task_path} failed, more than may. The first: item {index}: "
        "{error_type}: {error_message}"
    )


class ApprovalError(DurableError):
    pass


class ApprovalRequestError(ApprovalError, ValueError):
    option: str
    message = "wait_for_approval() cannot ask with {option} {value!r}: {reason}"


class ApprovalNotFoundError(ApprovalError):
    message = "There is no approval {approval_id}: never asked for, or pruned with its job."


class ApprovalDeniedError(ApprovalError, django_exceptions.PermissionDenied):
    message = 'User {user} may not answer "{title}": that takes {right}.'


class ApprovalFormError(ApprovalError, ValueError):
    """What is wrong with an answer: ``errors`` by field; ``form`` is bound, to be shown again."""

    errors: Mapping[str, Sequence[str]]
    form: Any = None
    message = 'The answer to "{title}" does not satisfy its form: {reason}'

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: value for name, value in self.__dict__.items() if name != "form"}
        return _rebuild, (type(self), fields)


class UnknownFormError(ApprovalError):
    path: str
    message = (
        "The form {path} is not loaded in this process. Import it in a module named in "
        "DURABLE['TASK_MODULES'], which every process loads. If it was moved or renamed, define a "
        "class of that name at its former place for approvals that are still open."
    )


class ApprovalClosedError(ApprovalError):
    message = '"{title}" is not open any more: {reason}'


class StepError(DurableError):
    pass


class StepFailedError(StepError):
    """A step used up its tries. The original error is ``__cause__`` when it happened just now."""

    step: str
    error_type: str
    error_message: str
    attempts: int
    message = 'Step "{step}" failed after {attempts} attempt(s): {error_type}: {error_message}'


class StepTimeoutError(StepFailedError):
    message = 'Step "{step}" took longer than its timeout (attempt {attempts}): {error_message}'


class StepInterrupted(StepFailedError):  # noqa: N818 (an outcome that tasks handle by name)
    message = (
        'Step "{step}" runs at most once, and the process died inside it: whether it took effect '
        "is unknown. Look, then retry_job(job, rerun_interrupted=True) if it did not."
    )


class StepValueError(StepError):
    message = 'What step "{step}" {role} cannot be kept: {cause}'


class NoCurrentStepError(StepError):
    message = "current_step() was called in {task_path}, between its steps. Call it in a step."


class StepOutsideJobError(StepError):
    message = (
        "{call} was called in a worker, in a thread that carries no job. Threads inherit none: "
        "run the function with contextvars.copy_context().run(...), or call it in the task itself."
    )


class StepInTransactionError(StepError):
    message = (
        "{call} was called inside a transaction on {alias!r}. What it saves is committed before "
        "the next line: move it out of the atomic() block, or make it a @step(atomic=True)."
    )


class NestedStepError(StepError):
    message = (
        'Step "{step}" is {kind} and was called inside step "{outer}", where its promise could '
        "not be kept. Call it from the task."
    )


class DuplicateStepNameError(StepError):
    message = (
        'Two functions use the step name "{step}" in one job: {first} and {second}. '
        "Name one of them: @step(name=...)."
    )


class ConcurrentStepsError(StepError):
    message = (
        '{call} was called while "{other}" was still running in the same job. Durable calls of '
        "one job take turns: await one before the next, or give them to gather()."
    )


class AsyncStepError(StepError):
    message = "{call} is synchronous and was called on an event loop. Use: await {cure}."


class Suspension(BaseException):
    """Ends this run of the task's function; the job goes on later, elsewhere, or not at all.

    Not an error, and a ``BaseException`` so that ``except Exception`` lets it pass. ``finally``
    blocks run. Raised by durable calls only; each later durable call of the run raises it again.
    """
