"""Calls to others, and the time they take."""

import random
import time
from collections.abc import Mapping
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 10


def travel(usual: timedelta) -> None:
    """Wait as for a network, half to one and a half times as long as usual."""
    time.sleep(usual.total_seconds() * random.uniform(0.5, 1.5))


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send JSON; the status of the answer. Raises: OSError if there is none."""
    request = Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            status: int = answer.status
            return status
    except HTTPError as error:
        return error.code
