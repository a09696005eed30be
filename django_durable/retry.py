"""When to try again, and how long to wait: a rule without a clock or a database."""

import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

ErrorRule = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
LONGEST_DELAY = timedelta(days=3650)
draw: ContextVar[Callable[[], float]] = ContextVar("durable_jitter", default=random.random)
"""What part of a wait is waited, from 0 to 1; in tests always the whole of it."""


class RetryAfter(Exception):  # noqa: N818 (an instruction, raised like an error)
    """Raise in a task or step to be tried again after a delay, or at an aware datetime.

    Counts as a failed try, so ``max_attempts`` still bounds it; replaces the policy's own delay.

    >>> raise RetryAfter(timedelta(minutes=5))
    """

    def __init__(self, when: timedelta | datetime, message: str = "asked to be tried again later"):
        if isinstance(when, datetime) and when.tzinfo is None:
            raise ValueError(f"RetryAfter takes an aware datetime, not the naive {when!r}.")
        self.when = when
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.when, *self.args)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a task or step is tried, and the wait between tries.

    The wait before try ``n + 1`` is ``initial_delay * factor ** (n - 1)``, at most ``max_delay``;
    with ``jitter`` it is drawn evenly between zero and that ("full jitter"). Nothing waits after
    the last try.
    """

    max_attempts: int = 1
    """Tries in all, the first included: 1 never tries again."""
    initial_delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(hours=1)
    jitter: bool = True
    retry_on: ErrorRule = (Exception,)
    """An error type, or a tuple of them, worth another try; or a predicate."""
    give_up_on: ErrorRule = ()
    """An error type, or a tuple, that stops at once; or a predicate. Beats ``retry_on``."""
    deadline: timedelta | None = None
    """No try begins later than this after the first began; None: no such limit."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(
                f"max_attempts={self.max_attempts} must be at least 1 (the first try)."
            )
        if self.initial_delay < timedelta(0) or self.max_delay < timedelta(0):
            raise ValueError("initial_delay and max_delay must not be negative.")
        if not self.factor >= 1:
            raise ValueError(f"factor={self.factor} must be at least 1.")

    def next_delay(
        self, error: BaseException, *, tries: int, elapsed: timedelta, now: datetime
    ) -> timedelta | None:
        """The wait before another try, or None: that was the last.

        ``tries`` counts those made, ``elapsed`` since the first began, ``now`` is the database's.
        """
        if tries >= self.max_attempts or not self._worth_another(error):
            return None
        delay = self._delay(error, tries, now)
        if self.deadline is not None and elapsed + delay > self.deadline:
            return None
        return delay

    def _worth_another(self, error: BaseException) -> bool:
        if isinstance(error, RetryAfter):
            return True
        return _matches(self.retry_on, error) and not _matches(self.give_up_on, error)

    def _delay(self, error: BaseException, tries: int, now: datetime) -> timedelta:
        if isinstance(error, RetryAfter):
            wait = error.when - now if isinstance(error.when, datetime) else error.when
            return min(max(wait, timedelta(0)), LONGEST_DELAY)
        ceiling = self.backoff(tries)
        return ceiling * draw.get()() if self.jitter else ceiling

    def backoff(self, tries: int) -> timedelta:
        """The wait after ``tries`` failed tries, before jitter."""
        try:
            return min(self.initial_delay * self.factor ** (tries - 1), self.max_delay)
        except OverflowError:
            return self.max_delay


def _matches(rule: ErrorRule, error: BaseException) -> bool:
    if isinstance(rule, type | tuple):
        return isinstance(error, rule)
    return rule(error)
