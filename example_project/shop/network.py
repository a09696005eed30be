"""The time that calls to others take."""

import random
import time
from datetime import timedelta


def travel(usual: timedelta) -> None:
    """Wait as for a network, half to one and a half times as long as usual."""
    time.sleep(usual.total_seconds() * random.uniform(0.5, 1.5))
