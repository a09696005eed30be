"""The measured tasks: they live in a module that the worker can import by name."""

from django_tasks import task
from driving import note, note_first


@task()
def nothing() -> None:
    note_first()


@task()
def tell_time(number: int) -> None:
    note(number)
