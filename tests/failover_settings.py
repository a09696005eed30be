"""The suite's settings for two servers of which one is the primary: whichever accepts writes."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, env

DATABASES["default"] |= {
    "HOST": env.str("HOSTS"),
    "PORT": env.str("PORTS"),
    "OPTIONS": {"target_session_attrs": "read-write", "connect_timeout": 2},
}
