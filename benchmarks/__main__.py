"""The command line of the benchmarks: ``python -m benchmarks [--only NAME] [--runs N]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import django
from django.core.management import call_command

from benchmarks import plot, report
from benchmarks.blocking import CONNECTIONS
from benchmarks.database import scratch_database
from benchmarks.enqueueing import ENQUEUE
from benchmarks.lab import Lab
from benchmarks.measuring import Benchmark, Sample
from benchmarks.recovering import KILL
from benchmarks.report import Result
from benchmarks.starting import START
from benchmarks.stepping import ATOMIC_STEPS, DURABLE_STEPS, MANY_SLOTS

BENCHMARKS = [ENQUEUE, DURABLE_STEPS, ATOMIC_STEPS, MANY_SLOTS, START, KILL, CONNECTIONS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status is 0 whatever the figures are, since machines differ."""
    options = parse(arguments)
    chosen = [b for b in BENCHMARKS if not options.only or b.name in options.only]
    with scratch_database() as url, tempfile.TemporaryDirectory() as logs:
        set_up(url)
        lab = Lab(url, Path(logs))
        results = [result for b in chosen for result in measure(b, lab, options.runs or b.runs)]
        where = report.circumstances()
    report.print_table(results)
    print(report.summary(where))
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
    parser.add_argument("--runs", type=int, help="how often (default: 5 times, kill 10 times)")
    return parser.parse_args(arguments)


def set_up(url: str) -> None:
    """Load Django over the scratch database, here and in the processes started from here."""
    os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


def measure(benchmark: Benchmark, lab: Lab, runs: int) -> list[Result]:
    """Measure all runs, saying each as it is there."""
    print(f"{benchmark.name}: {runs} run(s) ...", flush=True)
    lab.clear()
    samples = []
    with benchmark.prepare(lab) as once:
        if benchmark.warm_up:
            once()
        for number in range(1, runs + 1):
            samples.append(once())
            print(f"  {number}/{runs}  {describe(samples[-1])}", flush=True)
    return [
        Result(benchmark=benchmark.name, row=row, figure=row.figure(samples))
        for row in benchmark.rows
    ]


def describe(sample: Sample) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in sample.items())


if __name__ == "__main__":
    sys.exit(main())
