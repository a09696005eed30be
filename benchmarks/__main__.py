"""The command line of the benchmarks: ``python -m benchmarks [--only NAME] [--runs N]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import django
from django.core.management import call_command

from benchmarks import plot, profiling, report
from benchmarks.blocking import CONNECTIONS
from benchmarks.crowding import CROWD
from benchmarks.database import measured_server
from benchmarks.draining import DRAIN
from benchmarks.enqueueing import BULK, ENQUEUE
from benchmarks.filling import FULL
from benchmarks.growing import MEMORY
from benchmarks.lab import Lab
from benchmarks.measuring import Benchmark, Sample
from benchmarks.peers import TITLES
from benchmarks.recovering import KILL
from benchmarks.report import Result
from benchmarks.sharing import HOT_KEY, PROCESSES
from benchmarks.sleeping import SLEEP
from benchmarks.spreading import FAN_OUT
from benchmarks.starting import START
from benchmarks.stepping import ATOMIC_STEPS, DURABLE_STEPS, MANY_SLOTS

BENCHMARKS = [
    ENQUEUE,
    BULK,
    CROWD,
    DRAIN,
    DURABLE_STEPS,
    ATOMIC_STEPS,
    MANY_SLOTS,
    START,
    KILL,
    CONNECTIONS,
    PROCESSES,
    HOT_KEY,
    FAN_OUT,
    SLEEP,
    MEMORY,
    FULL,
]
NAME = "durable_bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status is 0 whatever the figures are, since machines differ."""
    options = parse(arguments)
    chosen = [b for b in BENCHMARKS if not options.only or b.name in options.only]
    with measured_server() as server, tempfile.TemporaryDirectory() as logs, ExitStack() as cleanup:
        url = server.make_database(NAME)
        set_up(url, Path(logs))
        lab = Lab(url, Path(logs), server, cleanup, wanted=options.peers or list(TITLES))
        results = [result for b in chosen for result in measure(b, lab, options)]
        where = report.circumstances([p for p in lab.peers.values() if p.name in lab.wanted])
    report.print_table(results, where)
    profiling.report()
    if options.only or options.runs:
        print("A part, or fewer runs, was measured: the documentation stays as it is.")
    else:
        report.publish(results, where)
        plot.publish(results)
        print(f"Written: {report.PAGE}, {report.FOLDER}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument(
        "--only", action="append", choices=names, help="measure this; may be given several times"
    )
    parser.add_argument("--runs", type=int, help="how often (default: each row's own, mostly 5)")
    parser.add_argument(
        "--peer",
        action="append",
        choices=["none", *TITLES],
        dest="peers",
        help="measure this peer only; may be given several times (default: all)",
    )
    return parser.parse_args(arguments)


def set_up(url: str, folder: Path) -> None:
    """Load Django over the scratch database, here and in the processes started from here."""
    os.environ |= {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "BENCH_DIARY": str(folder / "diary"),
    }
    django.setup()
    profiling.prepare()
    call_command("migrate", run_syncdb=True, verbosity=0)


def measure(benchmark: Benchmark, lab: Lab, options: argparse.Namespace) -> list[Result]:
    """Measure all runs, saying each as it is there."""
    runs, began = options.runs or benchmark.runs, time.monotonic()
    print(f"{benchmark.name}: {runs} run(s) ...", flush=True)
    lab.clear()
    try:
        samples = run(benchmark, lab, runs)
    except Exception as error:  # the other rows are still to be measured
        traceback.print_exc()
        return [Result(benchmark=benchmark.name, row=row, why=str(error)) for row in benchmark.rows]
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return [
        Result(
            benchmark=benchmark.name,
            row=row,
            figure=row.figure(samples),
            remark=lab.remarks.get(benchmark.name, ""),
        )
        for row in benchmark.rows
    ]


def run(benchmark: Benchmark, lab: Lab, runs: int) -> list[Sample]:
    samples = []
    with benchmark.prepare(lab) as once:
        if benchmark.warm_up:
            once()
        for number in range(1, runs + 1):
            samples.append(once())
            print(f"  {number}/{runs}  {describe(samples[-1])}", flush=True)
    return samples


def describe(sample: Sample) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in sample.items())


if __name__ == "__main__":
    sys.exit(main())
