"""Whatever the point at which its worker dies, a job of steps ends as if nothing had happened."""

from dataclasses import replace

import pytest

from django_durable import Task
from tests.ends import End
from tests.scenarios.killing import Killing, Story, compare
from tests.testapp import killed_tasks as tasks

WHENS = ("before", "after")


def story_of(called: Task[[str], object]) -> Story:
    return Story(begin=lambda ref, queue: [called.using(queue_name=queue).enqueue(ref)])


@pytest.mark.parametrize(
    ("called", "kills"),
    [
        (tasks.six_steps, 36),
        (tasks.tries_twice, 12),
        (tasks.fails, 8),
        (tasks.in_one_commit, 8),
        (tasks.asynchronous, 14),
    ],
    ids=lambda parameter: getattr(parameter, "name", None),
)
def test_a_job_ends_alike_wherever_its_worker_is_killed(
    killing: Killing, called: Task[[str], object], kills: int
) -> None:
    killing.kill_everywhere(story_of(called), least=kills, whens=WHENS)


def test_a_letter_is_sent_at_most_once_wherever_the_worker_is_killed(killing: Killing) -> None:
    interrupted = []

    def differ_by_the_letter(story: Story, end: End, peaceful: End) -> list[str]:
        """It may be interrupted, as the job says then, and may then have been sent or not."""
        if end.facts["job 0"] == peaceful.facts["job 0"]:
            return compare(story, end, peaceful)
        interrupted.append(end.facts["job 0"])
        name = "job 0: send_letter"
        as_if = peaceful.facts | {key: end.facts[key] for key in ("job 0", name)}
        sent = end.calls.get("letter", [])
        found = compare(story, replace(end, calls=peaceful.calls), replace(peaceful, facts=as_if))
        return [*found, f"{len(sent)} letters"] if len(sent) > 1 else found

    killing.kill_everywhere(
        story_of(tasks.sends_a_letter), least=8, whens=WHENS, differences=differ_by_the_letter
    )

    assert {str(job) for job in interrupted} == {str(interrupted[0])}
    assert "nobody knows" in str(interrupted[0])
