"""The mail service that the documentation speaks of; its examples import it as ``shop.post``."""

from tests.docs_app.models import Mail


def send(to: str, text: str) -> None:
    """Send a mail. Asked twice, it sends two."""
    Mail.objects.create(to=to, text=text)
