"""What a fork finds of the jobs, children and events of its source."""

import pytest

from django_durable import (
    enqueue,
    enqueue_many,
    fork_job,
    gather,
    map_task,
    restart_job,
    retry_job,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
)
from django_durable.models import Checkpoint, Job, Message
from django_durable.testing import crash_after, run_jobs
from tests.builders import (
    HOUR,
    ended_job,
    redeployed,
    resumed_job,
    rewritten_job,
)
from tests.test_forks import CALLS, work

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@task(path="forks.child")
def child(name: str) -> str:
    return name


def family() -> list[str]:
    """Enqueues before its first step, before its third, and behind that."""
    one = enqueue(child, "one")
    work("1")
    work("2")
    two = enqueue(child, "two")
    work("3")
    three = enqueue(child, "three")
    return [str(job.pk) for job in (one, two, three)]


THREE = "enqueue:forks.child#3"


def children_of(job: Job) -> list[tuple[str | None, str]]:
    rows = Job.objects.filter(parent_id=job.pk).order_by("enqueued_at")
    return [(row.origin, row.args[0]) for row in rows]


class EnqueuedBeforeTests:
    """What the source enqueued before the place of the fork is not enqueued again."""

    def test_calls_before_the_place_find_the_jobs_of_the_source(self) -> None:
        source = ended_job(redeployed("forks.family", family))

        fork = resumed_job(fork_job(source, from_step="work#3"))

        assert fork.state == "SUCCESSFUL"
        assert children_of(fork) == [(THREE, "three")]
        assert fork.return_value[:2] == source.return_value[:2]
        assert fork.return_value[2] != source.return_value[2]

    def test_what_the_fork_enqueued_itself_is_found_by_its_own_replay(self) -> None:
        def more() -> list[str]:
            made = family()
            work("4")
            return made

        source = ended_job(redeployed("forks.family", more))
        fork = fork_job(source, from_step="work#3")
        with crash_after("work#4"):
            run_jobs()

        assert resumed_job(fork).state == "SUCCESSFUL"
        (own,) = Job.objects.filter(parent_id=fork.pk)
        assert fork.return_value == [*source.return_value[:2], str(own.pk)]

    def test_a_fork_of_a_fork_finds_them_too(self) -> None:
        source = ended_job(redeployed("forks.family", family))
        first = resumed_job(fork_job(source, from_step="work#3"))

        second = resumed_job(fork_job(first, from_step="work#3"))

        assert second.return_value[:2] == source.return_value[:2]
        assert children_of(second) == [(THREE, "three")]

    def test_a_fork_of_a_fork_at_an_earlier_place_knows_only_what_came_before_that(self) -> None:
        source = ended_job(redeployed("forks.family", family))
        first = resumed_job(fork_job(source, from_step="work#3"))

        second = resumed_job(fork_job(first, from_step="work#2"))

        assert second.return_value[0] == source.return_value[0]
        assert [name for _, name in children_of(second)] == ["two", "three"]

    def test_of_two_under_one_origin_that_of_the_fork_is_found(self) -> None:
        def run() -> str:
            work("1")
            two = enqueue(child, "two")
            work("2")
            return str(two.pk)

        source = ended_job(redeployed("forks.both", run))
        first = resumed_job(fork_job(source, from_step="work"))
        assert first.return_value != source.return_value

        second = resumed_job(fork_job(first, from_step="work#2"))

        assert second.return_value == first.return_value

    def test_they_are_known_when_the_source_and_they_are_pruned(self) -> None:
        source = ended_job(redeployed("forks.family", family))
        kept = source.return_value[:2]
        fork = fork_job(source, from_step="work#3")
        Job.objects.exclude(pk=fork.pk).delete()

        assert resumed_job(fork).return_value[:2] == kept
        assert children_of(fork) == [(THREE, "three")]

    def test_jobs_enqueued_inside_a_step_belong_to_the_step(self) -> None:
        @step
        def spawn(name: str) -> str:
            return str(enqueue(child, name).pk)

        def run() -> list[str]:
            return [spawn("a"), spawn("b")]

        source = ended_job(redeployed("forks.inside", run))

        fork = resumed_job(fork_job(source, from_step="spawn#2"))

        assert children_of(fork) == [("spawn#2/enqueue:forks.child", "b")]
        assert fork.return_value[0] == source.return_value[0]
        assert not Checkpoint.objects.filter(job_id=fork.pk, kind="fork").exists()

    def test_many_at_once_are_found_too(self) -> None:
        def run() -> list[str]:
            made = enqueue_many(child.bind(str(i)) for i in range(3))
            work("1")
            work("2")
            return [str(job.pk) for job in made]

        source = ended_job(redeployed("forks.many", run))

        fork = resumed_job(fork_job(source, from_step="work#2"))

        assert fork.return_value == source.return_value
        assert children_of(fork) == []

    def test_other_arguments_block_as_in_any_replay(self) -> None:
        source = ended_job(redeployed("forks.family", family))

        def other() -> None:
            enqueue(child, "other")
            work("1")
            work("2")

        fork = fork_job(source, from_step="work#3")
        redeployed("forks.family", other)

        assert resumed_job(fork).wait_kind == "blocked"

    def test_a_call_the_source_did_not_make_blocks_until_it_is_allowed(self) -> None:
        """A new call and one whose job is pruned look alike, and nobody can tell."""
        source = ended_job(redeployed("forks.family", family))
        Job.objects.filter(parent_id=source.pk).delete()
        fork = resumed_job(fork_job(source, from_step="work#3"))

        assert fork.wait_kind == "blocked"
        assert fork.wait_reason == (
            f"replay mismatch: expected the job that {source.pk} enqueued as enqueue:forks.child; "
            "found none: the call is new, or the job is pruned. To enqueue one: "
            "allow enqueue:forks.child"
        )
        retry_job(fork, allow_new_steps=["enqueue:forks.child"])

        assert resumed_job(fork).state == "SUCCESSFUL"
        assert [name for _, name in children_of(fork)] == ["one", "two", "three"]

    def test_an_idempotency_key_tells_what_the_source_did_not_note(self) -> None:
        key = child.using(idempotency_key="k")

        def run() -> str:
            made = enqueue(key, "one")
            work("1")
            work("2")
            return str(made.pk)

        first = enqueue(key, "one")
        source = ended_job(redeployed("forks.keyed", run))
        assert source.return_value == str(first.pk)

        assert resumed_job(fork_job(source, from_step="work#2")).return_value == str(first.pk)

    def test_events_of_the_kept_part_are_not_sent_again(self) -> None:
        @task(path="forks.listener")
        def listens() -> None:
            wait_for_event("said")

        def run(listener: str) -> None:
            send_event(listener, "said", 1)
            work("1")
            work("2")
            send_event(listener, "said", 2)
            work("3")

        listener = enqueue(listens)
        rewritten_job(listener, state="SCHEDULED", due_at=listener.due_at + HOUR)
        source = ended_job(redeployed("forks.sends", run), str(listener.pk))

        fork = resumed_job(fork_job(source, from_step="work#3"))

        assert fork.state == "SUCCESSFUL"
        sent = Message.objects.filter(job_id=listener.pk).order_by("id")
        assert [row.payload for row in sent] == ["1", "2", "2"]

    def test_a_child_whose_end_is_kept_is_not_started_again(self) -> None:
        def run() -> list[str]:
            started = child.start("c")
            work("1")
            result = started.result()
            work("2")
            return [str(started.job.pk), result]

        source = ended_job(redeployed("forks.starts", run))
        assert source.state == "SUCCESSFUL"

        fork = resumed_job(fork_job(source, from_step="work#2"))

        assert fork.return_value == source.return_value
        assert children_of(fork) == []

    def test_a_child_whose_end_is_not_kept_is_started_anew(self) -> None:
        def run() -> list[str]:
            started = child.start("c")
            work("1")
            work("2")
            return [str(started.job.pk), started.result()]

        source = ended_job(redeployed("forks.starts", run))

        fork = resumed_job(fork_job(source, from_step="work#2"))

        assert fork.state == "SUCCESSFUL"
        assert fork.return_value[1] == "c"
        assert fork.return_value[0] != source.return_value[0]
        assert children_of(fork) == [("start:forks.child", "c")]

    @pytest.mark.parametrize(
        ("place", "made"), [("work", 3), ("map:forks.child", 3), ("work#2", 0)]
    )
    def test_a_map_is_kept_whole_or_done_anew(self, place: str, made: int) -> None:
        def run() -> list[str]:
            work("1")
            values = list(map_task(child, ["a", "b", "c"]))
            work("2")
            return values

        source = ended_job(redeployed("forks.maps", run))

        fork = resumed_job(fork_job(source, from_step=place))

        assert fork.return_value == ["a", "b", "c"]
        assert len(children_of(fork)) == made

    def test_branches_keep_what_began_before_the_place(self) -> None:
        def one() -> str:
            return work("a1") + work("a2")

        def other() -> str:
            enqueue(child, "b")
            return work("b1") + work("b2")

        def run() -> list[str]:
            return [*gather(one, other), work("end")]

        source = ended_job(redeployed("forks.gathers", run))
        CALLS.clear()

        fork = resumed_job(fork_job(source, from_step="gather/1/work#2"))

        assert fork.return_value == source.return_value
        assert CALLS == ["b2", "end"]
        assert children_of(fork) == []

    def test_a_restart_enqueues_anew(self) -> None:
        source = ended_job(redeployed("forks.family", family))

        again = resumed_job(restart_job(source))

        assert [name for _, name in children_of(again)] == ["one", "two", "three"]

    def test_calls_of_its_own_part_may_be_changed_as_in_any_job(self) -> None:
        def plain() -> None:
            work("1")
            work("2")
            sleep(HOUR)

        def changed() -> None:
            work("1")
            work("2")
            enqueue(child, "new")
            sleep(HOUR)

        source = ended_job(redeployed("forks.grows", plain))
        fork = resumed_job(fork_job(source, from_step="work#2"))
        again = resumed_job(restart_job(source))
        redeployed("forks.grows", changed)
        run_jobs(ahead=HOUR)

        assert [name for _, name in children_of(fork)] == ["new"]
        assert [name for _, name in children_of(again)] == ["new"]
