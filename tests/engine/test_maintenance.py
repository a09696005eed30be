"""The verdict "lost", as one looker comes to it."""

from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from django_durable.engine import liveness
from django_durable.engine.clock import machine_seconds
from django_durable.engine.firing import GRACE
from django_durable.engine.maintenance import Maintenance
from django_durable.models import Worker
from tests.sessions import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_ticks_are_decided_on_before_they_count_as_missed_however_seldom_it_polls() -> None:
    chores = looker(poll_interval=timedelta(minutes=5))._chores

    (firing,) = [each for each in chores if each.do.__name__ == "fire_schedules"]
    assert timedelta(seconds=2 * firing.seconds) < GRACE


def registered_worker(*, lease: timedelta = timedelta(milliseconds=1)) -> int:
    """A worker whose lease is over as soon as it began."""
    return liveness.register_worker(
        "default",
        liveness.Registration(
            hostname="there", pid=1, queues=[], slots=1, code_version="x", lease=lease
        ),
    )


def looker(poll_interval: timedelta = timedelta(seconds=1)) -> Maintenance:
    return Maintenance(
        connection=connection,
        worker_id=0,
        lease=timedelta(hours=1),
        poll_interval=poll_interval,
        woken=lambda: None,
    )


def session_of(worker_id: int) -> psycopg.Connection[object]:
    settings = {**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}
    settings.pop("context", None)
    settings["application_name"] = liveness.session_name(worker_id)
    return psycopg.connect(**settings)


def is_lost(worker_id: int) -> bool:
    return Worker.objects.get(pk=worker_id).lost_at is not None


def second_look(maintenance: Maintenance) -> None:
    """Look again, as if the time between two looks had passed."""
    for look in maintenance._looks.values():
        look.at -= 1
    maintenance.look_for_lost()


def test_an_expired_lease_is_lost_at_the_first_look() -> None:
    worker_id = registered_worker()
    wait_until("select bool_and(lease_expires_at < clock_timestamp()) from durable_worker")

    looker().look_for_lost()

    assert is_lost(worker_id)


def test_a_free_lock_is_lost_at_the_second_look_without_a_heartbeat_between() -> None:
    worker_id = registered_worker(lease=timedelta(seconds=1))
    with connection.cursor() as cursor:
        cursor.execute("update durable_worker set has_lock = true, lease = interval '1 second'")
        cursor.execute("update durable_worker set lease_expires_at = now() + interval '1 hour'")
    maintenance = looker()

    maintenance.look_for_lost()
    assert not is_lost(worker_id)
    with connection.cursor() as cursor:
        cursor.execute("update durable_worker set heartbeat_at = clock_timestamp()")
    second_look(maintenance)
    assert not is_lost(worker_id)
    second_look(maintenance)

    assert is_lost(worker_id)


def test_a_looker_that_lost_its_own_connection_declares_nobody_lost_for_a_lease() -> None:
    worker_id = registered_worker()
    wait_until("select bool_and(lease_expires_at < clock_timestamp()) from durable_worker")
    maintenance = looker()

    maintenance.distrust()
    maintenance.look_for_lost()
    assert not is_lost(worker_id)
    maintenance._trusts_from = machine_seconds()
    maintenance.look_for_lost()

    assert is_lost(worker_id)


def test_a_worker_frozen_inside_its_claim_loses_its_sessions_and_is_declared_lost() -> None:
    worker_id = registered_worker()
    wait_until("select bool_and(lease_expires_at < clock_timestamp()) from durable_worker")
    maintenance = looker()
    with session_of(worker_id) as frozen:
        frozen.execute("select 1 from durable_worker where id = %s for key share", [worker_id])
        maintenance.look_for_lost()
        assert not is_lost(worker_id)
        second_look(maintenance)
        name = liveness.session_name(worker_id)
        wait_until(
            "select not exists (select from pg_stat_activity where application_name = %s)", name
        )
        frozen.close()

    second_look(maintenance)

    assert is_lost(worker_id)
