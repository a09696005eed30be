"""What was enqueued."""

from typing import Any

from django_durable.conf import get_settings
from django_durable.models import Job
from django_durable.tasks import Task


def assert_enqueued(task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Job:
    """The newest job of a task; with arguments given, one that was enqueued with just these.

    Raises: AssertionError naming the calls that were enqueued.
    """
    paths = [task.path, *task.aliases]
    jobs = list(Job.objects.using(get_settings().DATABASE).filter(task_path__in=paths))
    if not (args or kwargs):
        if jobs:
            return jobs[0]
        raise AssertionError(f"No job of {task.path} was enqueued.")
    wanted = task.bind_arguments(args, kwargs)
    calls = [task.bind_arguments(tuple(job.args), job.kwargs) for job in jobs]
    for job, call in zip(jobs, calls, strict=True):
        if call == wanted:
            return job
    listed = "\n".join(f"  {call}" for call in calls) or "  (none)"
    raise AssertionError(f"No job of {task.path} was enqueued with {wanted}. There are:\n{listed}")
