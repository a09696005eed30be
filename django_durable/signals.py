"""Django signals, sent in the worker after the commit they speak of, at most once.

Sent with ``send_robust``: a receiver that raises is logged and changes nothing.
"""

from django.dispatch import Signal

job_started = Signal()
"""A body is about to begin. Sender: the task's path. Arguments: ``job``."""

job_finished = Signal()
"""A final state is committed. Sender: the task's path. Arguments: ``job``, ``state``, ``error``
(the exception that ended it, or None). Not sent of a job that ends while nobody runs it: cancelled,
or late."""
