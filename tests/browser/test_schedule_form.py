"""The form of a schedule in a browser: the next times appear while the expression is typed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client
from playwright.sync_api import Page
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

import django_durable
from tests.browser.conftest import Scheme, Tab
from tests.scenarios.harness import eventually
from tests.scheduled import due_since, fire, new_schedule

pytestmark = pytest.mark.django_db(transaction=True)
LINES = "() => [...document.querySelectorAll('.durable-preview li')].map((li) => li.textContent)"


@pytest.fixture
def opened(
    settings: Settings,
    live_server: LiveServer,
    new_tab: Callable[..., Tab],
    admin_client: Client,
    tmp_path: Path,
) -> Callable[..., Tab]:
    """A function that opens a page of the admin for who may do everything."""
    for package in (admin, django_durable):
        static = Path(package.__file__).parent / "static"
        shutil.copytree(static, tmp_path / "static", dirs_exist_ok=True)
    settings.STATIC_ROOT = tmp_path / "static"

    def open_page(path: str, scheme: Scheme = "light") -> Tab:
        tab = new_tab(scheme)
        session = admin_client.cookies["sessionid"].value
        cookie = {"name": "sessionid", "value": session, "url": live_server.url}
        tab.do(lambda page: page.context.add_cookies([cookie]))
        tab.do(lambda page: page.set_viewport_size({"width": 1100, "height": 1000}))
        tab.do(lambda page: page.goto(f"{live_server.url}/admin/durable/schedule/{path}"))
        return tab

    return open_page


def lines_of(tab: Tab) -> list[str]:
    found: list[str] = tab.do(lambda page: page.evaluate(LINES))
    return found


def shoot(tab: Tab, name: str) -> None:
    """A picture to look at, if a folder for them is named."""
    if folder := os.environ.get("DURABLE_TEST_PICTURES"):
        tab.do(lambda page: page.screenshot(path=f"{folder}/{name}.png", full_page=True))


def test_the_next_times_follow_what_is_typed(opened: Callable[..., Tab]) -> None:
    tab = opened("add/")

    def type_rule(page: Page) -> None:
        page.fill("#id_name", "nightly stock")
        page.fill("#id_cron", "30 4 * * *")
        page.fill("#id_timezone", "Europe/Berlin")

    tab.do(type_rule)
    shown = r"\S.* 04:30:00 CES?T"
    eventually(
        lambda: [bool(re.fullmatch(shown, line)) for line in lines_of(tab)] == [True] * 5,
        "five times are shown",
    )
    shoot(tab, "add-light")

    tab.do(lambda page: page.fill("#id_cron", "30 2 31 2 *"))
    eventually(lambda: "Bad day-of-month" in "".join(lines_of(tab)), "the refusal is shown")
    tab.do(lambda page: page.fill("#id_cron", ""))
    eventually(lambda: lines_of(tab) == [], "nothing is shown for nothing")
    assert [problem for problem in tab.problems if "404" not in problem] == []  # no favicon


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_into_a_window(opened: Callable[..., Tab], scheme: Scheme) -> None:
    new_schedule("nightly stock", cron="30 2 * * *", tz="Europe/Berlin")
    new_schedule("every quarter of an hour", cron="*/15 * * * *", missed="none")
    for ago in (50, 30, 10):
        due_since("nightly stock", timedelta(seconds=ago))
        fire()
    due_since("every quarter of an hour", timedelta(hours=2))
    fire()

    for path, name in (
        ("", "list"),
        (f"{quote('nightly stock')}/change/", "page"),
        (f"{quote('every quarter of an hour')}/change/", "missed"),
    ):
        tab = opened(path, scheme)
        tab.do(
            lambda page: page.evaluate(
                "document.querySelector('details')?.setAttribute('open', '')"
            )
        )
        shoot(tab, f"{name}-{scheme}")
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert tab.do(lambda page, wide=wide: page.evaluate(wide))
        assert [problem for problem in tab.problems if "404" not in problem] == []
