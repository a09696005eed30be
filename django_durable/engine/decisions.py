"""What people decided, between its stored text and the value that a task gets. Reads only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet

from django_durable.engine import codec, instances


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to ``wait_for_approval``.

    ``data`` is the form's cleaned data; its model instances are fetched fresh at each replay.
    ``answered_by`` is the user as it is now, None if it is gone; the name is that of the time.
    """

    approved: bool
    data: dict[str, Any]
    answered_by: Any
    answered_by_name: str
    answered_at: datetime


def encode_data(data: Mapping[str, Any], *, limit: int) -> str:
    """The text of a form's cleaned data. Raises: NotSerializableError, PayloadTooLargeError."""
    plain = {
        name: list(value) if isinstance(value, QuerySet) else value for name, value in data.items()
    }
    return instances.encode(plain, path="data", limit=limit)


def decode_decision(text: str) -> Decision:
    """The decision of a text, with its user and the instances among its data.

    Raises: MissingInstanceError for an instance that is gone, but not for the user.
    """
    stored = json.loads(text)
    return Decision(
        approved=stored["approved"],
        data=instances.decode(codec.dump(stored["data"])),
        answered_by=instances.find_instance(get_user_model(), stored["answered_by"]),
        answered_by_name=stored["answered_by_name"],
        answered_at=datetime.fromisoformat(stored["answered_at"]).astimezone(UTC),
    )
