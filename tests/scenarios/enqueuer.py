"""``python -m tests.scenarios.enqueuer KEY GATE [unique]``: enqueues from several threads.

Under an idempotency key, or a unique job.
"""

import sys
import threading

import django

THREADS = 2


def main() -> None:
    django.setup()
    from django.db import connection

    from django_durable import Unique, enqueue
    from tests.scenarios.harness import pass_gate
    from tests.testapp.durable_stories import quick

    key, gate, *how = sys.argv[1:]
    called = quick.using(unique=Unique("queued")) if how else quick.using(idempotency_key=key)

    def race() -> None:
        connection.ensure_connection()
        pass_gate(gate)
        job = enqueue(called, key)
        sys.stdout.write(f"{job.pk} {job.is_duplicate}\n")
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
