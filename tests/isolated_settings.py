"""The suite's settings for workers whose engine has a role of its own, and jobs another."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, DURABLE, env

DATABASES["default"]["USER"] = "durable_test_app"
DATABASES["engine"] = DATABASES["default"] | {"USER": "durable_test_engine"}
DATABASES["engine"]["TEST"] = {"MIRROR": "default"}
DURABLE["ENGINE_DATABASE"] = "engine"
DURABLE["SLOT_CONNECTIONS"] = env.int("SLOT_CONNECTIONS", default=2)
