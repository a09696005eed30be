"""The settings of the suite, for workers whose tasks declare schedules."""

from tests.settings import *  # noqa: F403
from tests.settings import DURABLE as USUAL

DURABLE = USUAL | {"TASK_MODULES": ["tasks", "durable_stories", "scheduled_tasks"]}
