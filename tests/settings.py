"""Settings of the test suite: one PostgreSQL database, Django's admin, and ``tests.testapp``."""

import environ

env = environ.Env()

SECRET_KEY = "only-for-tests"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"

# Without a server in the environment the settings still load, as mypy and makemigrations need.
DATABASES = {"default": env.db_url("DATABASE_URL", default="postgres://localhost/durable")}
DATABASES["default"]["TEST"] = {"NAME": f"test_{DATABASES['default']['NAME']}"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_durable",
    "example_project.shop",
    "tests.testapp",
    "tests.docs_app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

BANK_WEBHOOK_SECRET = "only the bank and the shop"

DURABLE: dict[str, object] = {}

DURABLE["TASK_MODULES"] = [
    "tasks", "durable_stories", "family_stories", "compensated_tasks",
    "killed_chances", "killed_families", "killed_tasks", "killed_waits",
]  # fmt: skip
