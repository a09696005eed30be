"""Who looks at the admin, and with which permissions."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.admin.tasks import CODE

ClientFactory = Callable[..., Client]


@pytest.fixture(autouse=True)
def _first_version() -> None:
    """Each test begins before the deploy, in a world that fails."""
    CODE.has_new_step, CODE.fails = False, True


@pytest.fixture
def staff_client(db: None) -> ClientFactory:
    """A function that makes a client for a new member of staff with these permissions."""

    def make(*codenames: str, username: str = "ida", enforce_csrf_checks: bool = False) -> Client:
        user = User.objects.create_user(username, is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="durable", codename__in=codenames)
        )
        client = Client(enforce_csrf_checks=enforce_csrf_checks)
        client.force_login(user)
        return client

    return make
