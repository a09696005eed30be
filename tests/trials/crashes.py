"""PostgreSQL stopped with -m immediate again and again under load."""

from __future__ import annotations

import time

import pytest

from django_durable.models import Job
from tests.scenarios.harness import Workers, eventually
from tests.trials.load import Load, all_done
from tests.trials.replication import Pair

CRASHES = 15


@pytest.mark.timeout(400)
def test_nothing_is_lost_or_done_twice_and_no_worker_needs_a_restart(
    pair: Pair, workers: Workers, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    pair.standby.stop()
    pair.make_asynchronous()
    started = [workers.start("--slots", "4", "--lease", "4") for _ in range(2)]
    began = time.monotonic()
    for crash in range(1, CRASHES + 1):
        before = len(load.finished)
        eventually(
            lambda b=before: len(load.finished) > b, f"work goes on before crash {crash}", 60
        )
        pair.primary.restart("immediate")
    took = time.monotonic() - began
    all_done(load)

    assert all(process.popen.poll() is None for process in started)
    with capsys.disabled():
        print(  # noqa: T201  # a trial tells its figures
            f"\n{CRASHES} crashes in {took:.0f} s: {len(load.acknowledged)} jobs acknowledged, "
            f"{Job.objects.count()} done; "
            f"workers declared lost: {workers.logs.count('is declared lost')}"
        )
