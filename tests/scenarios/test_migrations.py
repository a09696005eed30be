"""Deploying: migrations from several hosts at once, workers before and after."""

import subprocess
import sys

from tests.scenarios.harness import Workers


def test_several_hosts_may_migrate_at_once(empty_database: dict[str, str]) -> None:
    command = [sys.executable, "-m", "django", "migrate", "--no-input"]

    hosts = [
        subprocess.Popen(
            command, env=empty_database, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(3)
    ]
    outputs = [host.communicate(timeout=200)[0].decode() for host in hosts]

    assert [host.returncode for host in hosts] == [0, 0, 0], "\n".join(outputs)
    check = subprocess.run(
        [*command, "--check"], env=empty_database, capture_output=True, check=False
    )
    assert check.returncode == 0


def test_a_worker_refuses_an_unmigrated_database(
    workers: Workers, empty_database: dict[str, str]
) -> None:
    worker = workers.start(DATABASE_URL=empty_database["DATABASE_URL"])

    assert worker.exit_code() == 1
    assert "lacks migrations (0001_initial, " in worker.output
    assert "manage.py migrate" in worker.output
