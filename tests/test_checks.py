"""The system checks: each number, when it speaks and when it is silent."""

from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.db import connection, models
from pytest_django import Settings

from django_durable import task
from django_durable.checks import check_database


def messages(number: str, *, databases: list[str] | None = None) -> list[CheckMessage]:
    """What the check with this number says, as ``manage.py check`` would run it."""
    found = checks.run_checks(app_configs=apps.get_app_configs(), databases=databases)
    return [message for message in found if message.id == f"durable.{number}"]


def database_with(settings: Settings, **options: Any) -> None:
    """Let the default database have other options, for what only reads the settings."""
    settings.DATABASES = {"default": {**settings.DATABASES["default"], **options}}


pytestmark = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")


def test_a_sound_project_hears_nothing() -> None:
    found = checks.run_checks(include_deployment_checks=False)

    assert [message for message in found if str(message.id).startswith("durable.")] == []


class SettingsCheckTests:
    def test_each_problem_is_an_error(self, settings: Settings) -> None:
        settings.DURABLE = {"LEASES": 1, "MAX_LOST": 0}

        found = messages("E001")

        assert [type(message) for message in found] == [checks.Error, checks.Error]
        assert "Did you mean LEASE?" in found[0].msg
        assert "MAX_LOST" in found[1].msg

    def test_the_other_checks_survive_broken_settings(self, settings: Settings) -> None:
        settings.DURABLE = "nonsense"
        settings.USE_TZ = False

        assert [len(messages(number)) for number in ("E001", "E002", "E005")] == [1, 0, 0]


class DatabaseOptionTests:
    def test_autocommit_off_is_an_error(self, settings: Settings) -> None:
        database_with(settings, AUTOCOMMIT=False)

        (found,) = messages("E004")

        assert found.msg == "DATABASES['default'] has AUTOCOMMIT: False."

    def test_naive_times_are_an_error(self, settings: Settings) -> None:
        settings.USE_TZ = False

        (found,) = messages("E005")

        assert "USE_TZ = True" in str(found.hint)

    @pytest.mark.parametrize(
        ("pool", "warned"),
        [
            ({"max_size": 15}, True),
            ({"min_size": 2}, True),
            (True, True),
            ({}, False),
            ({"min_size": 2, "max_size": 16}, False),
            (False, False),
            (None, False),
        ],
    )
    def test_a_pool_smaller_than_the_slots_is_a_warning(
        self, settings: Settings, pool: Any, warned: bool
    ) -> None:
        database_with(settings, OPTIONS={"pool": pool})

        assert bool(messages("W001")) is warned

    def test_a_router_that_sends_business_models_elsewhere_is_a_warning(
        self, settings: Settings
    ) -> None:
        settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]

        (found,) = messages("W002")

        assert "testapp.Account, testapp.BankCall, testapp.Charge" in found.msg
        assert "durable.Job" not in found.msg


class Elsewhere:
    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        return "archive" if model._meta.app_label == "testapp" else None


class ContextTests:
    def test_a_provider_that_cannot_be_loaded_is_an_error(self, settings: Settings) -> None:
        path = "tests.testapp.tenants"
        settings.DURABLE = {
            "CONTEXT": {"a": f"{path}.TenantProvider", "b": f"{path}.Gone", "c": f"{path}.nothing"}
        }

        found = messages("E006")

        assert [message.msg.partition(" = ")[0] for message in found] == [
            "DURABLE['CONTEXT']['b']",
            "DURABLE['CONTEXT']['c']",
        ]
        assert "Gone" in found[0].msg
        assert found[1].msg.endswith("has no capture().")

    def test_broken_settings_are_told_first(self, settings: Settings) -> None:
        settings.DURABLE = {"CONTEXT": {"language": "x.Gone"}}

        assert [len(messages(number)) for number in ("E001", "E006")] == [1, 0]


class TaskPathTests:
    def test_two_functions_of_one_path_are_an_error(self) -> None:
        @task(path="orders.pay")
        def pay() -> None: ...

        @task(path="orders.settle", aliases=("orders.pay",))
        def settle() -> None: ...

        (found,) = messages("E003")

        assert '"orders.pay" is declared by both' in found.msg
        assert f"{pay.module_path} and {settle.module_path}" in found.msg

    def test_one_function_declared_twice_is_none(self) -> None:
        for _ in range(2):

            @task(path="orders.again")
            def again() -> None: ...

        assert messages("E003") == []


@pytest.mark.django_db
class ServerTests:
    def test_a_supported_server_is_fine(self) -> None:
        assert messages("E002", databases=["default"]) == []

    @pytest.mark.parametrize(("version", "refused"), [((14, 9), True), ((15, 0), False)])
    def test_an_old_server_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], refused: bool
    ) -> None:
        monkeypatch.setattr(connection, "get_database_version", lambda: version)

        assert bool(check_database(databases=["default"])) is refused

    def test_another_database_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "vendor", "sqlite")
        monkeypatch.setattr(connection, "display_name", "SQLite")

        (found,) = check_database(databases=["default"])

        assert found.id == "durable.E002"
        assert "'default' is SQLite" in found.msg

    def test_is_asked_only_where_databases_are_checked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "vendor", "sqlite")

        assert messages("E002") == []
        assert check_database(databases=["elsewhere"]) == []


@pytest.mark.django_db
def test_the_checks_can_be_run_by_their_tag(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check", tags=["durable"], databases=["default"])

    assert "no issues" in capsys.readouterr().out
