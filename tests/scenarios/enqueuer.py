"""``python -m tests.scenarios.enqueuer KEY GATE``: enqueues under a key, from several threads."""

import sys
import threading

import django

THREADS = 2


def main() -> None:
    django.setup()
    from django.db import connection

    from django_durable import enqueue
    from tests.scenarios.harness import pass_gate
    from tests.testapp.durable_stories import quick

    key, gate = sys.argv[1:]

    def race() -> None:
        connection.ensure_connection()
        pass_gate(gate)
        job = enqueue(quick.using(idempotency_key=key), key)
        sys.stdout.write(f"{job.pk} {job.is_duplicate}\n")
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
