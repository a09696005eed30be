"""Whatever the point at which a worker dies, the end is the same."""

from tests.scenarios.killing import Killing, Story
from tests.testapp import killed_tasks as tasks


def test_steps_of_all_kinds_end_alike_wherever_their_worker_is_killed(killing: Killing) -> None:
    story = Story(begin=lambda ref, queue: [tasks.six_steps.using(queue_name=queue).enqueue(ref)])

    killing.kill_everywhere(story, least=36)
