"""The life of one step: find its checkpoint, or run the body and save what came of it.

Between the parts the process may die: before the body nothing is known and it runs again (an
at-most-once step has recorded its start and does not); after the save it never runs again. The
value handed on is always the one that was stored, so that a first run and a replay cannot differ.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, NoReturn

from django_durable.conf import get_settings
from django_durable.engine import instances
from django_durable.engine.checkpoints import NewCheckpoint
from django_durable.engine.clock import machine_seconds
from django_durable.engine.codec import dump, plain_text
from django_durable.engine.compensations import Compensation
from django_durable.engine.rebuilding import rebuild_error, storable_error
from django_durable.engine.replay import (
    COMPENSATED,
    COMPENSATION,
    FAILED,
    RETRYING,
    STARTED,
    SUCCESSFUL,
    Recorded,
    ReplayMismatch,
    describe,
    keyed,
)
from django_durable.engine.run import (
    ActiveStep,
    Ending,
    Run,
    Stop,
)
from django_durable.engine.states import WaitKind
from django_durable.engine.threads import refuse_in_transaction, release_connections
from django_durable.engine.waits import Wait
from django_durable.exceptions import (
    EnqueueError,
    NotSerializableError,
    StepFailedError,
    StepInterrupted,
    StepTimeoutError,
    StepValueError,
    Suspension,
)
from django_durable.retry import RetryPolicy

logger = logging.getLogger("django_durable")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """What a step's decorator declared."""

    name: str
    func: Callable[..., Any]
    kind: str = "plain"
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    raises: tuple[type[BaseException], ...] = ()
    key: Callable[..., Any] | None = None
    match_arguments: bool = True
    compensation: Compensation | None = None

    @property
    def policy(self) -> RetryPolicy:
        """The step's own policy, or the default; an at-most-once step repeats only when told to."""
        if self.retry is not None:
            return self.retry
        return RetryPolicy() if self.kind == "at_most_once" else get_settings().RETRY


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One call of a step in one run, from its identity to its checkpoint.

    ``compensation`` is the call that is to undo it, encoded. If this call is itself to undo a step,
    ``undoes`` is that step's identity.
    """

    rule: StepRule
    run: Run
    identity: str
    seq: int
    attempt: int
    earlier: Recorded | None
    fingerprint: str | None = None
    compensation: str | None = None
    undoes: str | None = None
    began: float = field(default_factory=machine_seconds)
    end_gate: threading.Lock = field(default_factory=threading.Lock)

    @property
    def active(self) -> ActiveStep:
        return ActiveStep(
            name=self.rule.name,
            identity=self.identity,
            attempt=self.attempt,
            namespace=self.run.job.id,
            kind=self.rule.kind,
            stem=self.stem,
        )

    @property
    def stem(self) -> str:
        """What the idempotency key is made of: another one each time the step runs anew.

        That of a compensation goes with what it undoes, over all attempts to.
        """
        again = self.run.history.undone[self.undoes or self.identity]
        stem = f"{COMPENSATION}/{self.undoes}" if self.undoes else self.identity
        return f"{stem}/#{again}" if again else stem

    @property
    def elapsed(self) -> timedelta:
        return timedelta(seconds=machine_seconds() - self.began)

    @property
    def is_late(self) -> bool:
        return self.rule.timeout is not None and self.elapsed > self.rule.timeout

    def checkpoint(
        self, state: str, *, value: str | None = None, error: str | None = None
    ) -> NewCheckpoint:
        return NewCheckpoint(
            job_id=self.run.job.id,
            lease_token=self.run.job.lease_token,
            identity=self.identity,
            seq=self.seq,
            kind=self.rule.kind,
            state=state,
            function=describe(self.rule.func),
            fingerprint=self.fingerprint,
            attempt=self.attempt,
            elapsed=self.elapsed,
            value=value,
            error=error,
            compensation=self.compensation if state == SUCCESSFUL else None,
            undoes=self.undoes if state == SUCCESSFUL else None,
        )


def find(
    run: Run, rule: StepRule, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call | Recorded:
    """What this call is: a recorded outcome, or a call whose body is to run.

    Raises: Suspension if the job must stop or is blocked; the errors of a misplaced call.
    """
    refuse_in_transaction(f'Step "{rule.name}"')
    scope = run.scope
    scope.bind(rule.name, rule.func)
    name = keyed(rule.name, rule.key(*args, **kwargs)) if rule.key else rule.name
    identity = scope.identify(name)
    fingerprint = fingerprint_of(args, kwargs) if rule.match_arguments else None
    try:
        earlier = run.history.find(scope, identity, kind=rule.kind, fingerprint=fingerprint)
    except ReplayMismatch as mismatch:
        run.block(mismatch)
    if earlier is not None and earlier.is_final:
        return earlier
    undoing = encode_undoing(rule.compensation, identity, args, kwargs)
    return begin(run, rule, identity, earlier, fingerprint=fingerprint, compensation=undoing)


def begin(run: Run, rule: StepRule, identity: str, earlier: Recorded | None, **more: Any) -> Call:
    """A call that is to run, after an ``earlier`` try or without one.

    Raises: Suspension if its next try is not due yet, since the job was woken for something else.
    """
    seq = run.place(earlier)
    if earlier is not None and earlier.state == COMPENSATED:
        earlier = None
    call = Call(
        rule=rule,
        run=run,
        identity=identity,
        seq=seq,
        attempt=earlier.attempt + 1 if earlier and earlier.state == RETRYING else 1,
        earlier=earlier,
        **more,
    )
    if earlier is not None and earlier.state == RETRYING:
        _wait_for_turn(call, earlier)
    return call


def _wait_for_turn(call: Call, earlier: Recorded) -> None:
    due_at = earlier.next_attempt_at
    if due_at is not None and due_at > call.run.now():
        failed = replace(call, attempt=earlier.attempt)
        wait = retry_wait(failed, earlier.error or "{}", timedelta(0))
        call.run.suspend(replace(wait, timeout=None, until=due_at))


def encode_undoing(
    compensation: Compensation | None, step: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """The call that would undo a step, as its checkpoint keeps it.

    Raises: StepValueError if the arguments cannot be kept, before the body runs.
    """
    if compensation is None:
        return None
    try:
        return compensation.encode_call(args, kwargs, get_settings().MAX_PAYLOAD_BYTES)
    except EnqueueError as error:
        role = f"is called with, to be undone by {compensation.path},"
        raise StepValueError(step=step, role=role, cause=error) from error


def prepare(call: Call) -> Recorded | None:
    """Get ready for the body; the recorded end of an at-most-once step that died in it, if so."""
    run = call.run
    if call.rule.kind == "at_most_once":
        if call.earlier is not None and call.earlier.state == STARTED:
            return run.save(call.checkpoint(FAILED, error=_interrupted(call)))
        run.check_may_start()
        run.save(call.checkpoint(STARTED), obeys_cancel=False)
    if call.rule.kind != "atomic":
        release_connections()
    run.check_may_start()
    call.began = machine_seconds()
    if call.rule.timeout is not None and not iscoroutinefunction(call.rule.func):
        run.timed_calls.add(call)
        run.begin_timed(run, call)
    return None


def _interrupted(call: Call) -> str:
    error = StepInterrupted(
        step=call.identity, error_type="StepInterrupted", error_message="", attempts=1
    )
    return instances.encode_error(error, interrupted="yes")


def encode_value(call: Call, value: Any) -> str:
    if call.undoes is not None:
        return "null"  # nobody asks what a compensation returned
    hint = instances.hints_of(call.rule.func).get("return", Any)
    limit = get_settings().MAX_PAYLOAD_BYTES
    try:
        return instances.encode(value, hint=hint, path="the value", limit=limit)
    except EnqueueError as error:
        raise StepValueError(step=call.identity, role="returned", cause=error) from error


def succeed(call: Call, value: Any) -> Recorded:
    """Save what the body returned; a value that cannot be stored is the step's final failure."""
    try:
        text = encode_value(call, value)
    except StepValueError as error:
        return fail(call, error)
    return call.run.save(call.checkpoint(SUCCESSFUL, value=text))


def fail(call: Call, error: BaseException) -> Recorded:
    """Record a failed try: suspend for the next one, or save the final failure."""
    delay = next_delay(call, error)
    stored = storable_error(error, call.rule.raises)
    if delay is not None:
        call.run.suspend(retry_wait(call, stored, delay))
    return call.run.save(call.checkpoint(FAILED, error=stored))


def retry_wait(call: Call, stored: str, delay: timedelta) -> Wait:
    """The wait for a step's next try; it records the failed one."""
    tries = f"{call.attempt} of {call.rule.policy.max_attempts}"
    return Wait(
        checkpoint=call.checkpoint(RETRYING, error=stored),
        kind=WaitKind.TIMER,
        reason=f"step {call.identity} failed (try {tries}) and is tried again",
        timeout=delay,
    )


def next_delay(call: Call, error: BaseException) -> timedelta | None:
    """The policy's answer, or None if the policy itself fails (which is logged).

    A value that cannot be stored is no reason to do the work again.
    """
    if isinstance(error, StepValueError):
        return None
    now = call.run.now()
    first = call.earlier.started_at if call.earlier else None
    elapsed = now - first if first is not None else call.elapsed
    try:
        return call.rule.policy.next_delay(error, tries=call.attempt, elapsed=elapsed, now=now)
    except Exception:  # user code: a retry_on or give_up_on predicate
        logger.exception("The retry policy of step %s failed; giving up.", call.identity)
        return None


def timeout_error(call: Call) -> StepTimeoutError:
    assert call.rule.timeout is not None  # only timed steps time out
    return StepTimeoutError(
        step=call.identity,
        error_type="StepTimeoutError",
        error_message=f"{call.rule.timeout.total_seconds():g} s",
        attempts=call.attempt,
    )


def close(call: Call) -> None:
    """The body has ended; stop here if its thread was given up meanwhile."""
    if call.rule.timeout is not None and not call.end_gate.acquire(blocking=False):
        ending, scope = Ending(stop=Stop.GIVEN_UP), call.run.scope
        if scope.abandon is None:
            call.run.stop(ending)
        scope.is_abandoned, scope.ending = True, scope.ending or ending
        raise Suspension(ending.stop.value)
    call.run.timed_calls.discard(call)


def outcome(rule: StepRule, record: Recorded, cause: BaseException | None = None) -> Any:
    """The recorded value, decoded; or the recorded error, raised."""
    if record.state != SUCCESSFUL:
        raise_recorded(rule, record, cause)
    assert record.value is not None  # a SUCCESSFUL checkpoint has a value
    if record.value == "null":
        return None
    return instances.decode(record.value, hint=instances.hints_of(rule.func).get("return", Any))


def raise_recorded(rule: StepRule, record: Recorded, cause: BaseException | None) -> NoReturn:
    stored = json.loads(record.error or "{}")
    rebuilt = rebuild_error(stored, rule.raises)
    if rebuilt is not None:
        raise rebuilt from cause
    kinds = {"interrupted": StepInterrupted, "timeout": StepTimeoutError}
    cls = next((kinds[k] for k in kinds if stored.get(k)), StepFailedError)
    raise cls(
        step=record.identity,
        error_type=stored.get("type", "?"),
        error_message=stored.get("detail", stored.get("message", "")),
        attempts=record.attempt,
    ) from cause


LONGEST_FINGERPRINT = 200


def fingerprint_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The arguments as canonical text, shortened by a digest; what cannot be stored is left out."""
    if not args and not kwargs:
        return ""
    parts = [canonical(value) for value in args]
    if kwargs:
        parts += [f"{name}={canonical(value)}" for name, value in sorted(kwargs.items())]
    return shorten(", ".join(parts))


def canonical(value: Any) -> str:
    if (plain := plain_text((value,))) is not None:
        return plain
    kind = type(value)
    if kind is int or kind is str or kind is bool or value is None:
        return dump(instances.storable(value) if kind is str else value)
    try:
        return instances.encode(value, path="argument")
    except NotSerializableError:
        return "?"


def shorten(text: str) -> str:
    if len(text) <= LONGEST_FINGERPRINT:
        return text
    return f"{text[: LONGEST_FINGERPRINT - 44]}... sha256:{instances.digest(text)[:32]}"
