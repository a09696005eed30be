"""The reckoning of the benchmarks: figures, ratios, verdicts, tables, profiles."""

import math

import pytest

from benchmarks.broker import version_of
from benchmarks.filling import Index
from benchmarks.measuring import (
    AtLeast,
    AtMost,
    AtMostTimes,
    Figure,
    Rival,
    Row,
    Times,
    percentile,
    thousands,
)
from benchmarks.peers import HERE, TITLES, Peer
from benchmarks.profiling import summary
from benchmarks.report import Result, as_markdown, show, tables
from benchmarks.sharing import JOBS, RanTwiceError, check_once_each

WHERE = {
    "date": "2026-01-01",
    "machine": "Linux",
    "cpu": "a good one",
    "cpus": 2,
    "postgresql": "18.4",
    "python": "3.11",
    "django": "5.2",
    "psycopg": "3.3",
    "peers": {"Celery": "celery==5.7.0"},
}


def a_row(**changes: object) -> Row:
    options = {"title": "drain", "unit": "/s", "rivals": ["raw", "celery"], "targets": [Times(2)]}
    return Row(**(options | changes))


def a_result(row: Row, *samples: dict[str, float]) -> Result:
    return Result(benchmark="drain", row=row, figure=row.figure(samples))


class FigureTests:
    def test_a_ratio_is_the_median_of_the_runs_own_ratios(self) -> None:
        figure = a_row().figure(
            [{"ours": 10, "raw": 5}, {"ours": 30, "raw": 10}, {"ours": 20, "raw": 1}]
        )

        assert figure.ours == 20
        assert figure.rivals["raw"] == Rival(value=5, ratio=3)

    def test_a_rival_that_was_not_measured_has_no_figure(self) -> None:
        figure = a_row().figure([{"ours": 10, "raw": 5}])

        assert "celery" not in figure.rivals

    def test_a_rival_that_was_measured_in_some_runs_is_compared_with_those(self) -> None:
        figure = a_row().figure([{"ours": 10, "celery": 5}, {"ours": 90}])

        assert figure.ratio("celery") == 2

    def test_a_part_is_taken_of_each_contestant(self) -> None:
        figure = a_row(part="p99").figure([{"ours p99": 4, "raw p99": 2, "ours p50": 1}])

        assert (figure.ours, figure.ratio("raw")) == (4, 2)

    def test_nothing_is_infinitely_better_than_zero(self) -> None:
        assert a_row().figure([{"ours": 1, "raw": 0}]).ratio("raw") == math.inf

    def test_a_percentile_is_a_value_that_was_measured(self) -> None:
        assert percentile([4, 1, 3, 2], 50) == 2
        assert percentile([4, 1, 3, 2], 99) == 4


class VerdictTests:
    @pytest.mark.parametrize(
        ("target", "met"),
        [
            (Times(2), True),
            (Times(2.1), False),
            (AtMostTimes(2), True),
            (AtMostTimes(1.9), False),
            (AtMost(10, "ms"), True),
            (AtMost(9, "ms"), False),
            (AtLeast(10, "/s"), True),
            (AtLeast(11, "/s"), False),
        ],
    )
    def test_a_target_is_met_at_its_very_number(self, target: object, met: bool) -> None:
        figure = Figure(ours=10, rivals={"raw": Rival(5, 2)})

        assert target.is_met(figure) is met

    def test_one_missed_target_is_a_miss(self) -> None:
        row = a_row(targets=[Times(1), Times(3, "celery")])

        assert a_result(row, {"ours": 10, "raw": 5, "celery": 5}).verdict == "MISS"

    def test_a_target_beside_a_peer_that_is_not_there_is_left_open(self) -> None:
        row = a_row(targets=[Times(1), Times(3, "celery")])

        assert a_result(row, {"ours": 10, "raw": 5}).verdict == "not measured"
        assert a_result(row, {"ours": 1, "raw": 5}).verdict == "MISS"

    def test_a_row_left_out_says_why(self) -> None:
        result = Result(benchmark="hot", row=a_row(), why="there are no limits")

        assert result.verdict == "not measured"
        assert "there are no limits" in result.cells([])

    def test_targets_name_whom_they_are_beside(self) -> None:
        row = a_row(targets=[Times(0.6), Times(1, "celery"), AtMostTimes(1.5, "empty", "empty")])

        assert (
            Result(benchmark="", row=row).targets == ">= 0.6 x raw, >= 1 x Celery, <= 1.5 x empty"
        )


class ReportTests:
    def test_values_are_shown_as_people_read_them(self) -> None:
        assert show(3120.4, "/s") == "3 120 /s"
        assert show(1.837, "ms") == "1.84 ms"
        assert show(3, "") == "3"
        assert thousands(20_000) == "20 000"

    def test_rows_with_peers_stand_in_a_table_of_their_own(self) -> None:
        beside = a_result(a_row(title="beside"), {"ours": 4, "raw": 2, "celery": 1})
        alone = a_result(
            a_row(title="alone", rivals=["few"], beside="2 workers"), {"ours": 4, "few": 2}
        )

        (with_peers, without) = tables([beside, alone])

        assert with_peers[0] == ("what", "ours", "raw limit", *TITLES.values(), "target", "")
        assert with_peers[1][:3] == ("beside", "4 /s", "2 (2.00 x)")
        assert with_peers[1][with_peers[0].index("Celery")] == "1 (4.00 x)"
        assert without[1][:3] == ("alone", "4 /s", "2 workers: 2 (2.00 x)")

    def test_a_peer_without_a_figure_has_a_dash_and_its_reason_below(self) -> None:
        where = WHERE | {"peers": {"Celery": "redis-server is not installed"}}

        page = as_markdown([a_result(a_row(), {"ours": 4, "raw": 2})], where)

        assert "| - |" in page
        assert "Celery: redis-server is not installed" in page


class PeerTests:
    @pytest.mark.parametrize("name", TITLES)
    def test_each_peer_is_pinned_and_has_a_driver(self, name: str) -> None:
        versions = Peer(name).versions()

        assert versions
        assert [version for version in versions if "==" not in version] == []
        assert (HERE / name / "driver.py").exists()

    def test_the_brokers_version_is_read(self) -> None:
        assert version_of("Redis server v=7.0.15 sha=00000000:0 bits=64") == "Redis 7.0.15"


class RowTests:
    def test_a_job_that_ran_twice_or_never_is_told(self) -> None:
        check_once_each(iter(range(JOBS)))
        for wrong in ([*range(JOBS), 7], range(1, JOBS)):
            with pytest.raises(RanTwiceError, match="1 of"):
                check_once_each(iter(wrong))

    def test_an_index_is_made_again_as_it_was(self) -> None:
        plain = Index("job_due", "create index job_due on durable_job (due_at)", None, None)
        key = Index("job_pkey", "create unique index job_pkey ...", "job_pkey", "PRIMARY KEY (id)")

        assert (plain.drop, plain.create) == ("drop index job_due", plain.definition)
        assert key.drop == "alter table durable_job drop constraint job_pkey"
        assert key.create == "alter table durable_job add constraint job_pkey PRIMARY KEY (id)"


class ProfileTests:
    def test_a_function_counts_for_itself_and_for_what_it_calls(self) -> None:
        lines = ["thread (1);outer (a.py:1);inner (b.py:2) 3", "thread (1);outer (a.py:9) 1"]

        text = "\n".join(summary(lines))

        assert "75.0%  inner (b.py)" in text
        assert "25.0%  outer (a.py)" in text
        assert "100.0%  outer (a.py)" in text
