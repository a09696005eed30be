"""Bad input: refused in the caller, with an error of the tree, before anything is written."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from django_durable import (
    RetryPolicy,
    cancel_job,
    enqueue,
    enqueue_many,
    once,
    retry_job,
    step,
    task,
)
from django_durable.exceptions import (
    BulkItemError,
    DurableError,
    EnqueueError,
    JobNotFoundError,
    TaskDefinitionError,
)
from django_durable.models import Job

pytestmark = pytest.mark.django_db


@task
def nothing() -> None: ...


@task
def add(*numbers: int) -> int:
    return sum(numbers)


class RefusedInTheCallerTests:
    @pytest.mark.parametrize(
        "options",
        [
            {"delay": timedelta.max},
            {"idempotency_key": "k", "idempotency_retention": timedelta.max},
            {"run_after": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
            {"idempotency_key": "\ud800"},
        ],
        ids=lambda options: ",".join(options),
    )
    def test_what_the_database_would_refuse_is_refused_before(
        self, options: dict[str, Any]
    ) -> None:
        with pytest.raises(EnqueueError):
            nothing.using(**options).enqueue()

        assert Job.objects.count() == 0

    @pytest.mark.parametrize(
        "options",
        [{"scope": "a\x00"}, {"scope": "\ud800"}, {"scope": 5}, {"retention": timedelta.max}],
        ids=repr,
    )
    def test_once_refuses_bad_scopes_and_retentions(self, options: dict[str, Any]) -> None:
        with pytest.raises(EnqueueError):
            once("k", lambda: 1, **options)

    @pytest.mark.parametrize("thing", [len, "tests.task", None])
    def test_only_a_task_is_enqueued(self, thing: Any) -> None:
        with pytest.raises(DurableError):
            enqueue(thing)

    @pytest.mark.parametrize("thing", [nothing, len])
    def test_only_bound_calls_are_enqueued_in_bulk(self, thing: Any) -> None:
        with pytest.raises(BulkItemError):
            enqueue_many([thing])

    def test_a_key_conflict_in_bulk_names_its_place(self) -> None:
        keyed = add.using(idempotency_key="k")
        keyed.enqueue()

        with pytest.raises(BulkItemError) as caught:
            enqueue_many([nothing.bind(), nothing.using(idempotency_key="k").bind(), keyed.bind(1)])

        assert caught.value.index == 2

    @pytest.mark.parametrize("verb", [cancel_job, retry_job])
    @pytest.mark.parametrize("garbage", [None, 5, b"x" * 16])
    def test_garbage_that_is_no_text_is_no_job(self, verb: Any, garbage: Any) -> None:
        with pytest.raises(JobNotFoundError):
            verb(garbage)


class DeclarationTests:
    @pytest.mark.parametrize(
        "options",
        [{"nmae": "x"}, {"timeout": 5}, {"retry": 3}, {"key": "pk"}, {"raises": ValueError}],
        ids=repr,
    )
    def test_a_step_refuses_bad_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(TaskDefinitionError):
            step(**options)(lambda: None)

    def test_aliases_are_not_a_single_text(self) -> None:
        with pytest.raises(DurableError):
            task(path="moved", aliases="old.path")(lambda: None)  # type: ignore[call-overload]

    def test_a_step_may_be_made_in_a_comprehension(self) -> None:
        steps = {name: step(name=name)(lambda: 1) for name in "ab"}

        assert set(steps) == {"a", "b"}

    @pytest.mark.parametrize(
        ("options", "error"),
        [({"retry_on": OSError}, ValueError()), ({"give_up_on": KeyError}, OSError())],
        ids=repr,
    )
    def test_a_bare_class_is_a_rule_of_its_own_not_a_predicate(
        self, options: dict[str, Any], error: Exception
    ) -> None:
        """``callable(OSError)``: it is called, and the instance it makes is true."""
        kwargs: dict[str, Any] = {"elapsed": timedelta(0), "now": datetime.now(UTC), "tries": 1}
        tuples = {name: (cls,) for name, cls in options.items()}

        bare = RetryPolicy(max_attempts=3, jitter=False, **options).next_delay(error, **kwargs)

        right = RetryPolicy(max_attempts=3, jitter=False, **tuples).next_delay(error, **kwargs)
        assert bare == right
