"""The app: on start it finds every installed app's tasks and registers the system checks."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy


class DurableConfig(AppConfig):
    name = "django_durable"
    label = "durable"
    verbose_name = gettext_lazy("Durable jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_durable import checks  # noqa: PLC0415 (registers; needs ready models)
        from django_durable.conf import find_problems, get_settings  # noqa: PLC0415

        if not find_problems(checks.configured_options()):
            autodiscover_modules(*get_settings().TASK_MODULES)
