"""What all rows share: JSON kept as text, columns that explain themselves, no save()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy

if TYPE_CHECKING:
    _Field = models.Field[list[str], list[str]]
    _TextField = models.TextField[Any, Any]
else:
    _Field = models.Field
    _TextField = models.TextField


class JsonTextField(_TextField):
    """JSON kept as the text it was written as: SQL type ``json``, never ``jsonb``.

    ``jsonb`` would reorder keys and rewrite numbers, and a replay would see other values than the
    first run did. The Python value is the text.
    """

    def db_type(self, connection: Any) -> str:
        return "json"

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        return f"{sql}::text", params


class TextArrayField(_Field):
    """A list of texts in a ``text[]`` column, without django.contrib.postgres."""

    def db_type(self, connection: Any) -> str:
        return "text[]"


def means(meaning: str) -> Any:
    """A column's meaning, told to people (``help_text``) and to psql (``db_comment``)."""
    return {"help_text": gettext_lazy(meaning), "db_comment": meaning}


class ReadOnlyRow(models.Model):
    """A row that only the engine writes."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} is written by django_durable itself, never by save(). "
            "Use enqueue(), cancel_job(), retry_job(), the admin or manage.py durable."
        )

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} is removed by pruning, never by delete(). "
            "See DURABLE['RETENTION'] and manage.py durable prune."
        )
