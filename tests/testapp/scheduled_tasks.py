"""Tasks with schedules, found by workers whose settings name this module."""

from datetime import timedelta

from django_durable import Cron, task


@task(
    path="scheduled.report",
    schedule=(
        Cron("0 6 1 1 *", name="yearly", tz="Europe/Berlin", jitter=timedelta(seconds=1)),
        Cron("*/30 * * * *", name="often", overlap="queue"),
    ),
)
def scheduled_report() -> str:
    return "done"
