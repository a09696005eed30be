"""The primary dies under load and its synchronous standby takes over."""

from __future__ import annotations

import time

import pytest

from django_durable.models import Job
from tests.scenarios.harness import Workers, eventually
from tests.trials.load import Load, all_done, fresh
from tests.trials.replication import Pair


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["kill", "immediate"])
def test_nothing_acknowledged_is_lost_and_no_worker_needs_a_restart(
    pair: Pair, workers: Workers, load: Load, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = [workers.start("--slots", "4") for _ in range(2)]
    eventually(lambda: len(load.finished) > 50, "work goes on", 60)

    pair.kill_primary(mode)
    died = time.monotonic()
    time.sleep(2)  # whoever watches over the primary takes its time
    pair.promote()
    promoted = time.monotonic()
    before = len(load.finished)
    eventually(lambda: len(load.finished) > before, "work goes on at the standby", 60)
    again = time.monotonic()
    eventually(lambda: len(load.finished) > before + 50, "and on", 60)
    all_done(load)

    assert load.interruptions > 0
    assert all(process.popen.poll() is None for process in started)
    lost = fresh(lambda: workers.logs.count("is declared lost"))
    with capsys.disabled():
        print(  # noqa: T201  # a trial tells its figures
            f"\n{mode}: {len(load.acknowledged)} jobs acknowledged, {Job.objects.count()} done; "
            f"the standby was promoted {promoted - died:.1f} s after the death, the first job "
            f"finished there {again - promoted:.1f} s later; workers declared lost: {lost}"
        )
