"""Settings of the peer's own Django."""

from urllib.parse import parse_qs, urlsplit

from driving import URL

_url = urlsplit(URL)
_query = {name: values[0] for name, values in parse_qs(_url.query).items()}
SECRET_KEY = "only-for-benchmarks"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _query.get("host") or _url.hostname or "",
        "PORT": _query.get("port") or str(_url.port or ""),
    }
}
INSTALLED_APPS = ["django_tasks", "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
