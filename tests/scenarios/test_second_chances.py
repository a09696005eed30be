"""Retry, fork and continue_as: what was done before is kept, wherever a worker is killed."""

from dataclasses import replace

from django_durable import Task
from tests.scenarios.killing import Killing, Story
from tests.scenarios.test_killed_everywhere import story_of
from tests.testapp import killed_chances as tasks


def in_one_slot(called: Task[[str], object]) -> Story:
    """Its jobs take turns, so that each telling comes by the same durable points."""
    return replace(story_of(called), slots=1)


def test_retry_and_fork_go_on_from_the_failed_step_wherever_a_worker_is_killed(
    killing: Killing,
) -> None:
    peaceful, *_ = killing.kill_everywhere(in_one_slot(tasks.second_chances), least=25)

    assert peaceful.end is not None
    facts = peaceful.end.facts
    assert facts["job 0"][1:3] == ("SUCCESSFUL", 1)  # type: ignore[index]  # a job's facts
    assert facts["job 0 > start:killed.shaky"][1:3] == ("SUCCESSFUL", 2)  # type: ignore[index]  # ..
    assert facts["rows of booked once"] == 1
    assert facts["rows of enqueued once"] == 1
    assert facts["rows of booked at each end"] == 2
    assert len(peaceful.end.calls["paid once"]) == 1


def test_a_job_starts_over_once_for_each_life_wherever_its_worker_is_killed(
    killing: Killing,
) -> None:
    peaceful, *_ = killing.kill_everywhere(in_one_slot(tasks.lives), least=18)

    assert peaceful.end is not None
    written = {name: n for name, n in peaceful.end.facts.items() if name.startswith("rows of")}
    assert written == {
        f"rows of {what}-{number}": 1 for what in ("book", "child") for number in (1, 2, 3)
    }
    assert sorted(peaceful.end.calls) == ["pay-1", "pay-2", "pay-3"]
