"""For your own tests: run the jobs that are due, here and now, and ask what was enqueued.

>>> place_order(client)
>>> assert_enqueued(fulfil_order)
>>> run_jobs()
>>> run_jobs(ahead=timedelta(hours=1))     # what is due within the hour, too
>>> with crash_after("charge_card"):
...     run_jobs()                         # the process "dies" once that step is saved
>>> run_jobs()                             # and another one goes on

Works inside Django's ``TestCase`` and with pytest-django alike, on the caller's connection.
"""

from django_durable.testing.assertions import assert_enqueued
from django_durable.testing.running import crash_after, run_jobs

__all__ = ["assert_enqueued", "crash_after", "run_jobs"]
