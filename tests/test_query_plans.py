"""The hot statements read only what they need, however much lies around them."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from django_durable import enqueue
from django_durable.engine import (
    checkpoints,
    claims,
    forking,
    liveness,
    outcomes,
    registry,
    retention,
    waits,
)
from django_durable.engine.sql import load
from tests.testapp.durable_stories import quick

FINISHED, FUTURE = 1_000_000, 100_000
FILL = """
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, arguments, lease_token, attempt,
    attempt_base, lost_count, blocked_count, allowed_steps, enqueued_at, finished_at
)
select
    gen_random_uuid(), 'stories.quick', 'default', case when n > %(finished)s then 100 else 0 end,
    case when n > %(finished)s then 'SCHEDULED' else 'SUCCESSFUL' end,
    statement_timestamp() + case when n > %(finished)s then interval '1 day' else interval '0' end,
    '{"args":[],"kwargs":{}}', 1, 1, 0, 0, 0, '{}', statement_timestamp(),
    case when n <= %(finished)s then statement_timestamp() - n * interval '1 second' end
from generate_series(1, %(all)s) as n
"""
FILL_CHECKPOINTS = """
insert into durable_checkpoint (
    job_id, identity, seq, kind, state, function, attempt, value, lease_token, started_at, saved_at
)
select
    id, 'charge', 1, 'plain', 'SUCCESSFUL', 'f', 1, '1', 1, statement_timestamp(),
    statement_timestamp()
from durable_job where state = 'SUCCESSFUL' limit 200000
"""


@pytest.fixture(scope="module")
def filled_table(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A million finished jobs and a hundred thousand future ones of the highest priority."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(FILL, {"finished": FINISHED, "all": FINISHED + FUTURE})
        cursor.execute(FILL_CHECKPOINTS)
        cursor.execute("analyze durable_job, durable_checkpoint")
        yield
        cursor.execute("truncate durable_job, durable_attempt, durable_checkpoint")
        cursor.execute("analyze durable_job")


@pytest.fixture
def worker(filled_table: None, db: None) -> claims.Claimant:
    worker_id = liveness.register_worker(
        "default",
        liveness.Registration(
            hostname="here", pid=1, queues=[], slots=1, code_version="x", lease=timedelta(days=1)
        ),
    )
    return claims.Claimant(
        worker_id=worker_id,
        alias="default",
        task_paths=registry.known_paths(),
        code_version="x",
        max_lost=5,
    )


def plan_nodes(statement: str, params: Any = None) -> list[dict[str, Any]]:
    """Every node of a statement's plan, run for real inside the test's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, buffers, format json) {statement}", params)
        (answer,) = cursor.fetchone()
    plan = json.loads(answer) if isinstance(answer, str) else answer
    nodes, todo = [], [plan[0]["Plan"]]
    while todo:
        node = todo.pop()
        nodes.append(node)
        todo += node.get("Plans", [])
    return nodes


def assert_reads(nodes: list[dict[str, Any]], *indexes: str, most_rows: int = 100) -> None:
    """No scan of a whole table, these indexes used, and few rows touched or thrown away."""
    big = {"durable_job", "durable_checkpoint"}
    scans = [n for n in nodes if n["Node Type"] == "Seq Scan" and n.get("Relation Name") in big]
    assert not scans, scans
    used = {n["Index Name"] for n in nodes if "Index Name" in n}
    assert set(indexes) <= used, used
    for node in nodes:
        touched = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert touched * node["Actual Loops"] <= most_rows, node


def test_a_claim_reads_only_entries_of_its_batch(worker: claims.Claimant) -> None:
    for index in range(50):
        enqueue(quick, str(index))
    with CaptureQueriesContext(connection) as captured:
        claimed = claims.claim_jobs(worker, ["default"], limit=10)
    (locking,) = [q["sql"] for q in captured if "FOR NO KEY UPDATE SKIP LOCKED" in q["sql"]]

    nodes = plan_nodes(locking)

    assert len(claimed) == 10
    assert_reads(nodes, "job_claim", most_rows=20)


def test_an_empty_poll_reads_one_index_entry_at_most(worker: claims.Claimant) -> None:
    assert_reads(plan_nodes(load("find_ready_queues")), "job_claim", most_rows=3)


def test_promotion_reads_only_what_is_due(worker: claims.Claimant) -> None:
    params = {"limit": 1000, "notify": True, "quiet_queues": []}

    assert_reads(plan_nodes(waits.PROMOTE_DUE, params), "job_due", most_rows=10)


def test_recovery_reads_only_running_jobs(worker: claims.Claimant) -> None:
    enqueue(quick, "a")
    claims.claim_jobs(worker, ["default"], limit=1)
    liveness.mark_stopped("default", worker.worker_id)
    params = {"limit": 100, "notify": True, "quiet_queues": []}

    assert_reads(plan_nodes(liveness.RECOVER_JOBS, params), "job_running", most_rows=10)


def test_a_heartbeat_reads_only_its_own_running_jobs(worker: claims.Claimant) -> None:
    params = {"worker_id": worker.worker_id, "has_lock": True, "backlogged": False}

    assert_reads(plan_nodes(liveness.HEARTBEAT, params), "job_running", most_rows=10)


def test_pruning_reads_a_chunk(worker: claims.Claimant) -> None:
    params = {"state": "SUCCESSFUL", "retention": timedelta(days=7), "limit": 100}

    nodes = plan_nodes(retention.PRUNE_JOBS, params)

    assert_reads(nodes, "job_finished", most_rows=200)


def test_checkpoints_and_outcomes_find_their_rows_by_key(worker: claims.Claimant) -> None:
    job = enqueue(quick, "a")
    (claimed,) = claims.claim_jobs(worker, ["default"], limit=1)
    fence = {"job_ids": [job.pk, uuid.uuid4()], "lease_tokens": [claimed.lease_token, 1]}
    checkpoint = {column: [None, None] for column in checkpoints._ARRAYS if column not in fence} | {
        "identities": ["a", "b"],
        "seqs": [1, 1],
        "kinds": ["plain", "plain"],
        "states": ["SUCCESSFUL"] * 2,
        "functions": ["f", "f"],
        "attempts": [1, 1],
        "values": ["1", "1"],
        "elapseds": [timedelta(0)] * 2,
    }
    saving = plan_nodes(checkpoints.SAVE_CHECKPOINTS, fence | checkpoint)
    outcome = {column: [None, None] for column in outcomes._ARRAYS if column not in fence}
    ending = plan_nodes(
        outcomes.FINISH_JOBS, fence | outcome | {"states": ["SUCCESSFUL", "FAILED"]}
    )

    assert_reads(saving, "durable_job_pkey", most_rows=10)
    assert_reads(ending, "durable_job_pkey", most_rows=10)


def test_a_fork_reads_only_what_belongs_to_its_source(worker: claims.Claimant) -> None:
    job = enqueue(quick, "a")
    params = {"id": uuid.uuid4(), "source_id": job.pk, "from_step": None, "arguments": None}
    times = {"deadline_at": None, "deadline": None, "notify": True, "quiet_queues": []}

    nodes = plan_nodes(forking.COPY_JOB, params | times)

    assert_reads(nodes, "durable_job_pkey", "job_origin_once", "durable_checkpoint_pkey")
