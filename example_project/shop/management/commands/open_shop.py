from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand

from example_project.shop.seed import stock_the_shelves
from example_project.shop.tasks.fulfilment import MANAGERS


class Command(BaseCommand):
    help = "Fill the shelves; make a user who sees all, and a manager who decides about discounts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--password", required=True, help="of both")

    def handle(self, *, password: str, **options: Any) -> None:
        new = stock_the_shelves()
        managers, _ = Group.objects.get_or_create(name=MANAGERS)
        self._make_user("admin", password, is_superuser=True)
        self._make_user("manager", password, is_superuser=False).groups.add(managers)
        self.stdout.write(f"{new} new wares are on the shelves; admin and manager have the keys.")

    def _make_user(self, username: str, password: str, *, is_superuser: bool) -> Any:
        users = get_user_model()._default_manager
        user, _ = users.get_or_create(
            username=username, defaults={"is_staff": True, "is_superuser": is_superuser}
        )
        user.set_password(password)
        user.save()
        return user
