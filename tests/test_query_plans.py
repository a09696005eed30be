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

from django_durable import Limit, enqueue
from django_durable.engine import (
    checkpoints,
    claims,
    families,
    forking,
    limits,
    liveness,
    locking,
    outcomes,
    registry,
    retention,
    waits,
)
from django_durable.engine.sql import id_array, load
from django_durable.engine.states import WaitKind
from django_durable.models import Job, Queue
from tests.testapp.durable_stories import quick

# The first test waits until the tables are filled, which is much to write for a slow machine.
pytestmark = pytest.mark.timeout(600)

HOUR = timedelta(hours=1)
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


FILL_FAMILY = """
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, arguments, lease_token, attempt,
    attempt_base, lost_count, blocked_count, allowed_steps, parent_id, origin, awaited_as,
    on_parent_end, wait_kind, enqueued_at, finished_at, deadline_at
)
select
    gen_random_uuid(), 'stories.quick', 'default', 0, child.state, statement_timestamp(), '{}', 0,
    1, 0, 0, 0, '{}', %(parent_id)s, 'map:x/' || n, 'map:x', 'cancel',
    case when child.state = 'WAITING' then 'limit' end, statement_timestamp(),
    case when child.state = 'SUCCESSFUL' then statement_timestamp() end,
    statement_timestamp() + interval '1 hour'
from generate_series(1, 10000) as n
cross join lateral (
    select case when n <= 4000 then 'SUCCESSFUL' when n < 4010 then 'READY' else 'WAITING' end
        as state
) as child
"""
RULE = '{"total": 10000, "max_concurrency": 10, "min_successes": null, "max_failures": 5}'


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
        claimed = claims.claim_jobs(worker, ["default"], limit=10).jobs
    (locking,) = [q["sql"] for q in captured if "FOR NO KEY UPDATE SKIP LOCKED" in q["sql"]]

    nodes = plan_nodes(locking)

    assert len(claimed) == 10
    assert_reads(nodes, "job_claim", most_rows=20)


def test_an_empty_poll_reads_one_index_entry_at_most(worker: claims.Claimant) -> None:
    assert_reads(plan_nodes(load("find_ready_queues")), "job_claim", most_rows=3)


FILL_LIMITED = """
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, arguments, lease_token, attempt,
    attempt_base, lost_count, blocked_count, allowed_steps, enqueued_at, limit_name, limit_key
)
select
    gen_random_uuid(), 'stories.quick', queue_name, 0, 'READY', statement_timestamp(), '{}', 0, 1,
    0, 0, 0, '{}', statement_timestamp(), 'crm',
    case queue_name when 'hot' then 'hot' else lpad(n::text, 5, '0') end
from generate_series(1, 10000) as n, unnest(array['hot', 'keys']) as queue_name
"""


@pytest.fixture
def limited_jobs(worker: claims.Claimant) -> None:
    """One hot key with 10 000 ready jobs, and 10 000 keys with one each."""
    limits.declare_limits(connection, [Limit("crm", concurrency=1, rate=9, period=HOUR)])
    with connection.cursor() as cursor:
        cursor.execute(FILL_LIMITED)


@pytest.mark.parametrize("queue_name", ["hot", "keys"])
def test_a_limited_claim_reads_a_few_keys(
    limited_jobs: None, worker: claims.Claimant, queue_name: str
) -> None:
    look = {"queues": [queue_name], "limits": ["crm"], "cursors": ["03000"], "keys": [16]}
    fit = worker.fit(suspects=False)
    params = {**look, "most": 16, **{name: getattr(fit, name) for name in limits.Fit.__slots__}}

    nodes = plan_nodes(limits.FIND_PLACES, params)

    assert_reads(nodes, "job_claim_limited", "job_limit_places", "limitstart_latest")
    assert len(claims.claim_jobs(worker, [queue_name], limit=16).jobs) == (
        1 if queue_name == "hot" else 16
    )


def test_what_a_limit_offers_is_locked_by_key_and_merged_with_a_few_heads(
    limited_jobs: None,
) -> None:
    jobs = [enqueue(quick.using(queue_name="keys"), str(index)) for index in range(50)]
    statement, params = locking._write_ids("default")
    ids = id_array(job.pk for job in jobs[:16])

    locked = plan_nodes(statement, [ids if param is locking._IDS else param for param in params])
    heads = plan_nodes(claims.FIND_FIRST_READY, {"queue_name": "keys", "most": 16})

    assert_reads(locked, "durable_job_pkey", most_rows=20)
    assert_reads(heads, "job_claim", most_rows=16)


def test_the_gates_of_a_claim_are_read_by_a_few_entries(
    limited_jobs: None, worker: claims.Claimant
) -> None:
    Queue.objects.bulk_create([Queue(name=name, concurrency=1) for name in ["default", "hot"]])
    params = {"worker_id": worker.worker_id, "queues": ["default", "hot", "keys", "none"]}

    nodes = plan_nodes(claims.HOLD_WORKER, params)
    places = plan_nodes(limits.COUNT_PLACES, {"queues": ["default", "hot"]})

    assert_reads(nodes, "job_claim_limited", "job_claim", most_rows=20)
    assert_reads(places, "job_running", most_rows=20)


def test_queues_are_found_by_an_entry_of_each(limited_jobs: None) -> None:
    nodes = plan_nodes(load("find_ready_queues"))

    assert_reads(nodes, "job_claim", "job_claim_limited", most_rows=10)


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
    rule = retention.Rule("SUCCESSFUL", timedelta(days=7))
    params = retention.parameters(rule, after=retention.BEGINNING, limit=100)

    nodes = plan_nodes(retention.PRUNE_JOBS, params)

    assert_reads(nodes, "job_finished", most_rows=200)


def test_checkpoints_and_outcomes_find_their_rows_by_key(worker: claims.Claimant) -> None:
    job = enqueue(quick, "a")
    (claimed,) = claims.claim_jobs(worker, ["default"], limit=1).jobs
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


@pytest.fixture
def big_map(worker: claims.Claimant) -> Job:
    """A parent that waits for 10 000 children, ten at once, of which one has just ended."""
    enqueue(quick, "parent")
    (parent,) = claims.claim_jobs(worker, ["default"], limit=1).jobs
    started = checkpoints.NewCheckpoint(
        job_id=parent.pk,
        lease_token=parent.lease_token,
        identity="map:x",
        seq=1,
        kind="map",
        state="STARTED",
        function="f",
        fingerprint=None,
        attempt=1,
        elapsed=timedelta(0),
        value=RULE,
    )
    wait = waits.Wait(
        checkpoint=started, kind=WaitKind.CHILDREN, reason="waits", awaited_as="map:x"
    )
    waits.suspend_job(connection, [wait])
    with connection.cursor() as cursor:
        cursor.execute(FILL_FAMILY, {"parent_id": parent.pk})
    return parent


def test_settling_a_parent_reads_a_few_of_its_children(big_map: Job) -> None:
    params = {
        "parent_ids": [big_map.pk],
        "awaited_ases": ["map:x"],
        "notify": True,
        "quiet_queues": [],
    }

    nodes = plan_nodes(families.SETTLE_PARENTS, params)

    assert_reads(nodes, "job_awaited", most_rows=20)
    assert Job.objects.filter(parent_id=big_map.pk, state="READY").count() == 10


def test_an_end_looks_for_bound_children_by_one_entry(
    big_map: Job, worker: claims.Claimant
) -> None:
    enqueue(quick, "b")
    (job,) = claims.claim_jobs(worker, ["default"], limit=1).jobs
    Job.objects.filter(parent_id=big_map.pk).update(parent_id=job.pk)
    one = {column: [None] for column in outcomes._ARRAYS} | {
        "job_ids": [job.pk],
        "lease_tokens": [job.lease_token],
        "states": ["SUCCESSFUL"],
    }

    assert_reads(plan_nodes(outcomes.FINISH_JOBS, one), "job_live_children", most_rows=10)


def test_children_to_cancel_are_found_by_their_marked_parents(big_map: Job) -> None:
    outcomes.cancel_jobs("default", [big_map.pk])

    nodes = plan_nodes(families.FIND_CHILDREN_TO_CANCEL, {"limit": 50})
    clearing = plan_nodes(families.CLEAR_CANCELS_CHILDREN, {"limit": 50})

    assert_reads(nodes, "job_cancels_children", "job_live_children", most_rows=51)
    assert_reads(clearing, "job_cancels_children", "job_live_children", most_rows=50)


def test_overdue_jobs_are_found_by_their_deadline(big_map: Job) -> None:
    assert_reads(plan_nodes(outcomes.FIND_OVERDUE, {"limit": 50}), "job_deadline", most_rows=10)
