"""When to try again, and how long to wait."""

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable import RetryAfter, RetryPolicy

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def next_delay(
    policy: RetryPolicy,
    error: BaseException | None = None,
    *,
    tries: int = 1,
    elapsed: timedelta = timedelta(0),
) -> timedelta | None:
    return policy.next_delay(error or ValueError(), tries=tries, elapsed=elapsed, now=NOW)


class BackoffTests:
    def test_doubles_from_the_initial_delay(self) -> None:
        policy = RetryPolicy(max_attempts=9, initial_delay=SECOND, jitter=False)

        delays = [next_delay(policy, tries=tries) for tries in range(1, 6)]

        assert delays == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 16 * SECOND]

    def test_is_capped_by_max_delay(self) -> None:
        policy = RetryPolicy(max_attempts=99, max_delay=10 * SECOND, jitter=False)

        assert next_delay(policy, tries=4) == 8 * SECOND
        assert next_delay(policy, tries=5) == 10 * SECOND
        assert next_delay(policy, tries=98) == 10 * SECOND

    @given(
        tries=st.integers(1, 100_000),
        factor=st.floats(1, 1e300),
        initial=st.timedeltas(timedelta(0), timedelta(days=9999)),
    )
    def test_never_leaves_its_bounds_however_many_tries(
        self, tries: int, factor: float, initial: timedelta
    ) -> None:
        policy = RetryPolicy(initial_delay=initial, factor=factor, max_delay=timedelta(hours=1))

        assert timedelta(0) <= policy.backoff(tries) <= timedelta(hours=1)

    def test_never_shrinks_from_one_try_to_the_next(self) -> None:
        policy = RetryPolicy(factor=1.7, max_delay=timedelta(minutes=7))

        waits = [policy.backoff(tries) for tries in range(1, 60)]

        assert waits == sorted(waits)

    def test_jitter_spreads_evenly_between_nothing_and_the_whole_wait(self) -> None:
        policy = RetryPolicy(max_attempts=9, initial_delay=timedelta(seconds=100))

        delays = [delay for _ in range(400) if (delay := next_delay(policy)) is not None]

        assert len(delays) == 400
        assert all(timedelta(0) <= delay <= timedelta(seconds=100) for delay in delays)
        assert sum(delay < timedelta(seconds=25) for delay in delays) > 40
        assert sum(delay > timedelta(seconds=75) for delay in delays) > 40


class StopTests:
    def test_the_default_is_one_try(self) -> None:
        assert next_delay(RetryPolicy()) is None

    def test_nothing_waits_after_the_last_try(self) -> None:
        policy = RetryPolicy(max_attempts=3, jitter=False)

        assert [next_delay(policy, tries=n) is None for n in (1, 2, 3, 4)] == [
            False, False, True, True,
        ]  # fmt: skip

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
    def test_what_is_no_exception_is_not_tried_again(self, error: BaseException) -> None:
        assert next_delay(RetryPolicy(max_attempts=3), error) is None

    def test_retry_on_names_the_errors_worth_another_try(self) -> None:
        policy = RetryPolicy(max_attempts=3, retry_on=(OSError,))

        assert next_delay(policy, ConnectionError()) is not None
        assert next_delay(policy, ValueError()) is None

    def test_give_up_on_is_stronger_than_retry_on(self) -> None:
        policy = RetryPolicy(max_attempts=3, retry_on=(OSError,), give_up_on=(PermissionError,))

        assert next_delay(policy, PermissionError()) is None
        assert next_delay(policy, TimeoutError()) is not None

    def test_both_rules_may_be_predicates(self) -> None:
        policy = RetryPolicy(
            max_attempts=3,
            retry_on=lambda error: "later" in str(error),
            give_up_on=lambda error: "never" in str(error),
        )

        assert next_delay(policy, ValueError("later")) is not None
        assert next_delay(policy, ValueError("later, or never")) is None
        assert next_delay(policy, ValueError("now")) is None

    def test_no_try_begins_after_the_deadline(self) -> None:
        policy = RetryPolicy(
            max_attempts=99, initial_delay=10 * SECOND, jitter=False, deadline=30 * SECOND
        )

        assert next_delay(policy, elapsed=20 * SECOND) == 10 * SECOND
        assert next_delay(policy, elapsed=21 * SECOND) is None


class RetryAfterTests:
    def test_its_delay_replaces_the_policys(self) -> None:
        policy = RetryPolicy(max_attempts=2, max_delay=SECOND)

        assert next_delay(policy, RetryAfter(timedelta(minutes=5))) == timedelta(minutes=5)

    def test_a_datetime_counts_on_the_databases_clock(self) -> None:
        later = NOW + timedelta(minutes=7)

        assert next_delay(RetryPolicy(max_attempts=2), RetryAfter(later)) == timedelta(minutes=7)

    @pytest.mark.parametrize("when", [NOW - timedelta(hours=1), timedelta(hours=-1)])
    def test_the_past_means_at_once(self, when: datetime | timedelta) -> None:
        assert next_delay(RetryPolicy(max_attempts=2), RetryAfter(when)) == timedelta(0)

    def test_counts_as_a_failed_try(self) -> None:
        policy = RetryPolicy(max_attempts=2)

        assert next_delay(policy, RetryAfter(SECOND), tries=2) is None

    def test_is_obeyed_whatever_retry_on_says(self) -> None:
        policy = RetryPolicy(max_attempts=2, retry_on=(OSError,))

        assert next_delay(policy, RetryAfter(SECOND)) == SECOND

    def test_the_deadline_bounds_it(self) -> None:
        policy = RetryPolicy(max_attempts=2, deadline=timedelta(minutes=1))

        assert next_delay(policy, RetryAfter(timedelta(minutes=2))) is None

    def test_an_absurd_delay_is_capped(self) -> None:
        delay = next_delay(RetryPolicy(max_attempts=2), RetryAfter(timedelta.max))

        assert delay == timedelta(days=3650)

    def test_refuses_a_naive_datetime(self) -> None:
        with pytest.raises(ValueError, match="aware datetime, not the naive"):
            RetryAfter(datetime(2030, 1, 1))  # noqa: DTZ001

    def test_survives_pickling(self) -> None:
        copy = pickle.loads(pickle.dumps(RetryAfter(SECOND, "the bank is closed")))

        assert (copy.when, str(copy)) == (SECOND, "the bank is closed")


class ValidationTests:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"max_attempts": 0}, "max_attempts=0 must be at least 1"),
            ({"initial_delay": -SECOND}, "must not be negative"),
            ({"max_delay": -SECOND}, "must not be negative"),
            ({"factor": 0.5}, "factor=0.5 must be at least 1"),
            ({"factor": float("nan")}, "factor=nan must be at least 1"),
        ],
    )
    def test_refuses_what_cannot_work(self, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            RetryPolicy(**options)

    def test_a_policy_cannot_be_changed(self) -> None:
        policy = RetryPolicy()

        with pytest.raises(AttributeError):
            policy.max_attempts = 5  # type: ignore[misc]  # that is the point
