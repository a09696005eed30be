"""A COMMIT whose answer is lost is repeated: the same operation, with the value in hand."""

from __future__ import annotations

from typing import Any, NoReturn

from django_durable.engine import atomic, checkpoints, executor, run, writer
from django_durable.engine.checkpoints import NewCheckpoint, Saved
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.outcomes import Outcome, Written
from django_durable.engine.replay import Recorded
from django_durable.engine.run import Ending, Run
from django_durable.engine.states import JobState
from django_durable.models import Job
from tests.protocol.lossy import Fate
from tests.protocol.rules import Rule, both, cut, executed, patched
from tests.protocol.runs import (
    declare_atomic,
    declare_enqueueing,
    declare_plain,
    declare_retrying,
    state_in_database,
)
from tests.protocol.stage import PATIENCE, Stage, is_held_up
from tests.protocol.world import (
    cancel,
    claimed_job,
    finish,
    new_worker,
    perform,
    retry,
    state_of,
    taken_over,
)
from tests.testapp.models import Charge

SAVE = "into durable_checkpoint as old"
FINISH = "returning wanted.index"
SUSPEND = "'STEP_RETRYING'"
DECIDE = "ends_as = coalesce("
UNDO = "marked as ("
ENQUEUE = "insert into durable_job"
CONTINUE = "continued_count = job.continued_count + 1"


def assert_state(job: Job, state: str) -> None:
    assert state_of(job) == state, f"the job is {state_of(job)}, not {state}"


# --- atomic steps


def an_atomic_step_whose_commit_is_in_flight_has_one_effect(stage: Stage) -> None:
    """The client gives up and repeats while the server is still at the first COMMIT."""
    declare_atomic()
    job = claimed_job(new_worker(), "protocol.atomic")
    slot = stage.actor("slot")
    flight = slot.do(stage.lose_connection, "COMMIT", Fate.IN_FLIGHT)
    running = slot.start(perform, job, stage.writer())
    is_held_up(running)
    flight.land()
    running.result(PATIENCE)

    effects = Charge.objects.count()
    assert effects == 1, f"{effects} effects of one atomic step"
    assert_state(job, "SUCCESSFUL")


def an_atomic_step_whose_commit_never_arrived_runs_again(stage: Stage) -> None:
    bodies: list[str] = []
    declare_atomic(lambda: bodies.append("body"))
    job = claimed_job(new_worker(), "protocol.atomic")
    slot = stage.actor("slot")
    slot.do(stage.lose_connection, "COMMIT", Fate.NEVER_ARRIVED)
    slot.do(perform, job, stage.writer())

    assert_state(job, "SUCCESSFUL")
    assert (len(bodies), Charge.objects.count()) == (2, 1)


# --- checkpoints, outcomes, retries, children


def a_checkpoint_whose_answer_is_lost_is_adopted(stage: Stage) -> None:
    seen = declare_plain(lambda: "value")
    job = claimed_job(new_worker(), "protocol.plain")
    saving, _ = stage.lossy_writer(SAVE, Fate.ANSWER_LOST)
    stage.actor("slot").do(perform, job, saving)

    assert_state(job, "SUCCESSFUL")
    assert seen == ["value"]


def a_checkpoint_that_never_arrived_is_saved_again(stage: Stage) -> None:
    bodies: list[str] = []

    def body() -> str:
        bodies.append("body")
        return "value"

    declare_plain(body)
    job = claimed_job(new_worker(), "protocol.plain")
    saving, _ = stage.lossy_writer(SAVE, Fate.NEVER_ARRIVED)
    stage.actor("slot").do(perform, job, saving)

    assert_state(job, "SUCCESSFUL")
    assert bodies == ["body"]


def an_outcome_that_never_arrived_is_written_again(stage: Stage) -> None:
    declare_plain(lambda: "value")
    job = claimed_job(new_worker(), "protocol.plain")
    finishing, _ = stage.lossy_writer(FINISH, Fate.NEVER_ARRIVED)
    stage.actor("slot").do(perform, job, finishing)

    assert_state(job, "SUCCESSFUL")


def a_retry_that_never_arrived_is_written_again(stage: Stage) -> None:
    declare_retrying(lambda: None)
    job = claimed_job(new_worker(), "protocol.retrying")
    suspending, _ = stage.lossy_writer(SUSPEND, Fate.NEVER_ARRIVED)
    stage.actor("slot").do(perform, job, suspending)

    assert_state(job, "SCHEDULED")


def a_child_whose_insert_is_unanswered_is_inserted_once(stage: Stage) -> None:
    declare_enqueueing()
    job = claimed_job(new_worker(), "protocol.enqueueing")
    slot = stage.actor("slot")
    slot.do(stage.lose_connection, ENQUEUE, Fate.ANSWER_LOST)
    slot.do(perform, job, stage.writer())

    assert_state(job, "SUCCESSFUL")
    assert Job.objects.filter(parent_id=job.pk).count() == 1


def only_the_retry_is_repeated_not_the_program(stage: Stage) -> None:
    """The job's suspension is committed and its answer lost; then an operator cancels the job."""
    states: list[str] = []
    declare_retrying(lambda: states.append(state_in_database()))
    job = claimed_job(new_worker(), "protocol.retrying")
    suspending, _ = stage.lossy_writer(SUSPEND, Fate.ANSWER_LOST, meanwhile=lambda: cancel(job))
    stage.actor("slot").do(perform, job, suspending)

    assert states == ["RUNNING"], f"user code started when the job was {states[1:]}"
    assert_state(job, "CANCELLED")


def a_value_to_adopt_that_is_gone_counts_as_a_lost_lease(stage: Stage) -> None:
    """Between the conflict and the look, others fail the job, and an operator retries it."""

    def fail() -> NoReturn:
        raise ValueError

    class TakenOverInBetween(writer.GroupWriter):
        def save(self, checkpoint: NewCheckpoint) -> Saved:
            saved = super().save(checkpoint)
            assert (saved.held, saved.saved) == (True, False), "there was no conflict"
            finish(taken_over(job), JobState.FAILED)
            retry(job)
            return saved

    seen = declare_plain(fail)
    job = claimed_job(new_worker(), "protocol.plain")
    saving, _ = stage.lossy_writer(SAVE, Fate.ANSWER_LOST, kind=TakenOverInBetween)
    stage.actor("slot").do(perform, job, saving)

    assert seen == [], f"user code saw {seen} in the place of a value that is gone"
    assert_state(job, "READY")


# --- switched off


def forget_what_is_unanswered(self: Any, write: Any, items: list[Any]) -> list[Any]:
    self._connection = self._connection or self._connect()
    try:
        answers: list[Any] = write(self._connection, items)
    except DATABASE_ERRORS:
        self._drop_connection()
        return [None] * len(items)
    return answers


def no_connection_error(error: BaseException) -> bool:
    return False


def write_or_start_again(
    run: Run, decided: Outcome | Ending, *, write: Any = executor.write
) -> executor.Conclusion:
    written: Written | None
    written, decided = write(run, decided)
    if written is None:
        run.ending = None
        run.records = list(run.history.records.values())
        del vars(run)["_made"]  # the history begins anew
        executor.in_context(run, lambda: executor.call(run))
    return written, decided


def save_and_take_what_is_there(self: Run, checkpoint: NewCheckpoint) -> Recorded:
    saved = self.writer.save(checkpoint)
    record: Any = checkpoint.as_recorded() if saved.saved else self.read(checkpoint.identity)
    self.settle(record, cancelled=saved.cancelled)
    return record  # type: ignore[no-any-return]


CONFLICT = (
    "on conflict (job_id, identity) do update set",
    "where old.state in ('STARTED', 'RETRYING', 'COMPENSATED')",
)
WITHOUT_CONFLICT = both(
    cut(checkpoints, "SAVE_CHECKPOINTS", *CONFLICT), cut(checkpoints, "SAVE_CHECKPOINT", *CONFLICT)
)
WITHOUT_KEY = executed(
    "alter table durable_checkpoint drop constraint durable_checkpoint_pkey",
    "truncate durable_checkpoint;"
    " alter table durable_checkpoint add primary key (job_id, identity)",
)

RULES = [
    Rule(
        name="unique",
        story=an_atomic_step_whose_commit_is_in_flight_has_one_effect,
        off={"without the primary key": both(WITHOUT_KEY, WITHOUT_CONFLICT)},
        symptom="2 effects of one atomic step",
    ),
    Rule(
        name="adopt",
        story=a_checkpoint_whose_answer_is_lost_is_adopted,
        off={"a conflict raises": WITHOUT_CONFLICT},
        symptom="the job is FAILED",
    ),
    Rule(
        name="adopt in transaction",
        story=an_atomic_step_whose_commit_is_in_flight_has_one_effect,
        off={"not read": patched(atomic, "read_checkpoint", lambda *_: None)},
        symptom="the job is RUNNING",
    ),
    Rule(
        name="adopt in transaction",
        story=a_value_to_adopt_that_is_gone_counts_as_a_lost_lease,
        off={"taken as it is": patched(Run, "save", save_and_take_what_is_there)},
        symptom="user code saw",
    ),
    Rule(
        name="repeat unknown",
        story=an_atomic_step_whose_commit_never_arrived_runs_again,
        off={"raised": patched(atomic, "is_connection_error", no_connection_error)},
        symptom="the job is FAILED",
    ),
    Rule(
        name="repeat unknown",
        story=a_checkpoint_that_never_arrived_is_saved_again,
        off={"raised": patched(writer, "is_connection_error", no_connection_error)},
        symptom="the job is FAILED",
    ),
    Rule(
        name="repeat unknown",
        story=an_outcome_that_never_arrived_is_written_again,
        off={"forgotten": patched(writer.GroupWriter, "_repeat", forget_what_is_unanswered)},
        symptom="the job is RUNNING",
    ),
    Rule(
        name="repeat unknown",
        story=a_retry_that_never_arrived_is_written_again,
        off={"forgotten": patched(writer.GroupWriter, "_repeat", forget_what_is_unanswered)},
        symptom="the job is RUNNING",
    ),
    Rule(
        name="repeat unknown",
        story=a_child_whose_insert_is_unanswered_is_inserted_once,
        off={"raised": patched(run, "is_connection_error", no_connection_error)},
        symptom="the job is FAILED",
    ),
    Rule(
        name="repeat only the tail",
        story=only_the_retry_is_repeated_not_the_program,
        off={"from the top": patched(executor, "write", write_or_start_again)},
        symptom="user code started when the job was .'CANCELLED'",
    ),
]
