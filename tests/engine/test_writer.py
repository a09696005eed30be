"""The writer's session is replaced when asked, whatever else is being written."""

import threading
from typing import Any

import pytest

from django_durable.engine import sessions
from django_durable.engine.writer import GroupWriter

pytestmark = pytest.mark.django_db(transaction=True)


def backend_of(connection: Any) -> int:
    (pid,) = connection.execute("select pg_backend_pid()").fetchone()
    return int(pid)


def test_it_writes_over_another_session_after_reconnecting() -> None:
    writer = GroupWriter(lambda: sessions.connect("default"))
    before = writer.call(backend_of)

    writer.reconnect()

    assert writer.call(backend_of) != before
    writer.call(lambda connection: connection.close())


def test_reconnecting_amid_many_writers_leaves_none_of_them_waiting() -> None:
    writer = GroupWriter(lambda: sessions.connect("default"))
    answers: list[int] = []

    def write() -> None:
        for _ in range(30):
            answers.append(writer.call(backend_of))
            if len(answers) % 20 == 0:
                writer.reconnect()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert len(answers) == 240
    writer.call(lambda connection: connection.close())
