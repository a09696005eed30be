"""The suite's settings behind a pooler; with DIRECT_URL also a way past it."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, DURABLE, env

DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
if env.str("DIRECT_URL", default=""):
    DATABASES["direct"] = env.db_url("DIRECT_URL") | {"TEST": {"MIRROR": "default"}}
    DURABLE["DIRECT_DATABASE"] = "direct"
