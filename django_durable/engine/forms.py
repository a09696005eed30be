"""Form classes by their dotted path: written into a row, and found again among the loaded ones.

Nothing is imported by a name from a row. A class counts as known only if its module was imported by
this process's own code.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from django.forms import BaseForm, FileField


def path_of(form: type[BaseForm]) -> str:
    return f"{form.__module__}.{form.__qualname__}"


def problem_of(form: Any) -> str | None:
    """Why people could not answer with this form, or None."""
    if not (isinstance(form, type) and issubclass(form, BaseForm) and hasattr(form, "base_fields")):
        return "it must be a Form class, not an instance, a formset or a name."
    if "." in form.__qualname__:
        return "it must stand at the top of a module, where other processes find it too."
    files = [name for name, field in form.base_fields.items() if isinstance(field, FileField)]
    if files:
        return f"its field {files[0]!r} takes a file, which cannot be stored; ask for its address."
    if not _takes_only_data(form):
        return "its __init__ wants more than the data; the page that shows it has nothing else."
    return None


def _takes_only_data(form: type[BaseForm]) -> bool:
    signature = inspect.signature(form)
    try:
        signature.bind()
        signature.bind({})
    except TypeError:
        return False
    return True


def find_form(path: str) -> type[BaseForm] | None:
    """The loaded form class of a path; of several, the one that was defined last."""
    found = [cls for cls in _loaded_forms(BaseForm) if path_of(cls) == path]
    return found[-1] if found else None


def _loaded_forms(cls: type[BaseForm]) -> Iterator[type[BaseForm]]:
    for below in cls.__subclasses__():
        yield below
        yield from _loaded_forms(below)
