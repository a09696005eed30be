"""Measures the engine beside the raw limits of the same server and beside its peers, in one run.

    python -m benchmarks                      all of it, into docs/benchmarks.md and its folder
    python -m benchmarks --only steps         one benchmark, printed only
    python -m benchmarks --only drain --peer celery --runs 1

Raw means: the same row into the same table with the same indexes, a plain INSERT and its commit by
the same driver. What is compared takes turns within each run, and ratios are what counts: absolute
times differ from machine to machine. The peers live in ``benchmarks/peers``.
"""
