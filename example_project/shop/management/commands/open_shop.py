from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from example_project.shop.seed import stock_the_shelves


class Command(BaseCommand):
    help = "Fill the shelves, and make a user who may see the office and the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--username", default="admin")
        parser.add_argument("--password", required=True)

    def handle(self, *, username: str, password: str, **options: Any) -> None:
        new = stock_the_shelves()
        users = get_user_model()._default_manager
        user, _ = users.get_or_create(
            username=username, defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password(password)
        user.save()
        self.stdout.write(f"{new} new wares are on the shelves; {username} has the keys.")
