"""Settings of the measured processes: defaults wherever there are any."""

import environ

env = environ.Env()

SECRET_KEY = "only-for-benchmarks"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {"default": env.db_url("DATABASE_URL", default="postgres://localhost/durable")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_durable", "benchmarks"]
DURABLE = {"NOTIFY": env.bool("BENCH_NOTIFY", default=True)}
