from argparse import ArgumentParser
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from django_durable import enqueue
from example_project.shop.tasks import nightly_report


class Command(BaseCommand):
    help = "Enqueue the report of a day by hand: run twice, it makes one report."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--day", type=date.fromisoformat, help="such as 2026-01-31 (default: yesterday)"
        )

    def handle(self, *, day: date | None, **options: Any) -> None:
        day = day or timezone.now().date() - timedelta(days=1)
        job = enqueue(nightly_report.using(idempotency_key=day.isoformat()), day)
        state = "was enqueued before" if job.is_duplicate else "is enqueued"
        self.stdout.write(f"The report of {day} {state}: job {job.pk}.")
