"""The settings dict: what is refused, and how it is said."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from django_durable import RetryPolicy
from django_durable.conf import DEFAULTS, find_problems, get_settings

SECOND = timedelta(seconds=1)


class DefaultTests:
    def test_nothing_is_required(self, settings: Settings) -> None:
        del settings.DURABLE

        assert get_settings().DATABASE == "default"
        assert RetryPolicy(max_attempts=1) == get_settings().RETRY

    def test_finished_jobs_are_kept_by_state(self, settings: Settings) -> None:
        settings.DURABLE = {"RETENTION": {"SUCCESSFUL": None, "CANCELLED": SECOND}}

        kinds = ("SUCCESSFUL", "CANCELLED", "FAILED", "EVENT")
        kept = [get_settings().retention(kind) for kind in kinds]

        assert kept == [None, SECOND, timedelta(days=90), timedelta(days=90)]

    def test_queues_may_keep_them_otherwise(self, settings: Settings) -> None:
        own = {"mails": {"SUCCESSFUL": SECOND}, "audits": {"FAILED": None}}
        settings.DURABLE = {"RETENTION": {"FAILED": SECOND, "QUEUES": own}}

        kept = [
            [get_settings().retention(state, queue) for state in ("SUCCESSFUL", "FAILED")]
            for queue in ("mails", "audits", "others")
        ]

        week = timedelta(days=7)
        assert kept == [[SECOND, SECOND], [week, None], [week, SECOND]]

    def test_a_changed_setting_is_seen_at_once(self, settings: Settings) -> None:
        settings.DURABLE = {"MAX_LOST": 2}
        assert get_settings().MAX_LOST == 2

        settings.DURABLE = {"MAX_LOST": 3}
        assert get_settings().MAX_LOST == 3

    def test_lists_become_tuples(self, settings: Settings) -> None:
        settings.DURABLE = {"QUEUES": ["a", "b"], "TASK_MODULES": ["jobs"]}

        assert (get_settings().QUEUES, get_settings().TASK_MODULES) == (("a", "b"), ("jobs",))


class UnknownKeyTests:
    @pytest.mark.parametrize(
        ("key", "near"),
        [
            ("LEASES", "LEASE"),
            ("max_lost", None),
            ("MAX_PAYLOAD", "MAX_PAYLOAD_BYTES"),
            ("QUEUE", "QUEUES"),
            ("POLL_INTERVALL", "POLL_INTERVAL"),
            ("RETENTIONS", "RETENTION"),
        ],
    )
    def test_is_refused_with_the_nearest_known_name(self, key: str, near: str | None) -> None:
        (problem,) = find_problems({key: 1})

        assert f"DURABLE['{key}'] is not a setting." in problem
        assert near is None or problem.endswith(f"Did you mean {near}?")

    def test_what_resembles_nothing_is_answered_with_all_names(self) -> None:
        (problem,) = find_problems({"ŷŷŷŷŷŷ": 1})

        assert all(name in problem for name in DEFAULTS)

    def test_a_key_that_is_no_text_is_refused_too(self) -> None:
        assert find_problems({5: 1})[0].startswith("DURABLE[5] is not a setting.")

    def test_every_problem_is_told_in_one_go(self, settings: Settings) -> None:
        settings.DURABLE = {"LEASES": 1, "MAX_LOST": 0}

        with pytest.raises(ImproperlyConfigured, match=r"(?s)LEASES.*\n.*MAX_LOST.*= 0: it must"):
            get_settings()

    @pytest.mark.parametrize("options", [None, [], "DURABLE", 5])
    def test_anything_but_a_dict_is_refused(self, options: object) -> None:
        (problem,) = find_problems(options)

        assert problem.startswith("DURABLE must be a dict, not ")


class ValueTests:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("DATABASE", "nope"),
            ("DATABASE", None),
            ("DATABASE", ["default"]),
            ("DIRECT_DATABASE", "nope"),
            ("TASK_MODULES", "tasks"),
            ("TASK_MODULES", [""]),
            ("TASK_MODULES", [5]),
            ("QUEUES", "default"),
            ("QUEUES", []),
            ("QUEUES", ["a", " "]),
            ("LEASE", 15),
            ("LEASE", SECOND),
            ("LEASE", timedelta(days=25)),
            ("STATEMENT_TIMEOUT", timedelta(days=25)),
            ("IDLE_TRANSACTION_TIMEOUT", timedelta(days=25)),
            ("POLL_INTERVAL", timedelta(0)),
            ("POLL_INTERVAL", timedelta.max),
            ("POLL_INTERVAL", 1.0),
            ("NOTIFY", "yes"),
            ("NOTIFY", {"mail": 1}),
            ("NOTIFY", {5: True}),
            ("MAX_LOST", 0),
            ("MAX_LOST", True),
            ("MAX_LOST", "5"),
            ("MAX_PAYLOAD_BYTES", -1),
            ("MAX_PAYLOAD_BYTES", 1.5),
            ("RETRY", 3),
            ("RETRY", {"max_attempts": 3}),
            ("RETENTION", {"RUNNING": SECOND}),
            ("RETENTION", {"FAILED": 90}),
            ("RETENTION", {"EVENT": 90}),
            ("RETENTION", {"FAILED": timedelta(0)}),
            ("RETENTION", {"FAILED": timedelta.max}),
            ("RETENTION", {"QUEUES": {"mails": {"FAILED": timedelta.max}}}),
            ("RETENTION", SECOND),
            ("RETENTION", {"QUEUES": SECOND}),
            ("RETENTION", {"QUEUES": {"mails": SECOND}}),
            ("RETENTION", {"QUEUES": {"mails": {"EVENT": SECOND}}}),
            ("RETENTION", {"QUEUES": {"mails": {"FAILED": 90}}}),
            ("RETENTION", {"QUEUES": {" ": {"FAILED": SECOND}}}),
            ("CONTEXT", "shop.tenants.Tenants"),
            ("CONTEXT", ["shop.tenants.Tenants"]),
            ("CONTEXT", {"": "shop.tenants.Tenants"}),
            ("CONTEXT", {"language": "shop.tenants.Tenants"}),
            ("CONTEXT", {"tenant": object()}),
            ("CONTEXT", {"tenant": "not a path"}),
            ("CONTEXT", {"tenant": "shop."}),
            ("CONTEXT", {5: "shop.tenants.Tenants"}),
        ],
    )
    def test_a_wrong_value_is_refused_with_what_is_expected(self, key: str, value: Any) -> None:
        (problem,) = find_problems({key: value})

        assert problem.startswith(f"DURABLE['{key}'] = {value!r}: it must be ")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("DATABASE", "default"),
            ("DIRECT_DATABASE", None),
            ("TASK_MODULES", ("tasks", "jobs")),
            ("QUEUES", None),
            ("QUEUES", ["mail"]),
            ("LEASE", timedelta(seconds=2)),
            ("POLL_INTERVAL", timedelta(milliseconds=100)),
            ("NOTIFY", False),
            ("NOTIFY", {"mail": False, "sms": True}),
            ("MAX_LOST", 1),
            ("RETRY", RetryPolicy(max_attempts=3)),
            ("RETENTION", {"FAILED": None, "SUCCESSFUL": SECOND}),
            ("RETENTION", {"QUEUES": {"mails": {"FAILED": None, "SUCCESSFUL": SECOND}}}),
            ("CONTEXT", {}),
            ("CONTEXT", {"tenant": "shop.tenants.Tenants"}),
        ],
    )
    def test_a_right_value_is_taken(self, key: str, value: Any) -> None:
        assert find_problems({key: value}) == []

    def test_every_setting_has_a_default_and_a_rule(self) -> None:
        for name in DEFAULTS:
            assert find_problems({name: object()}) != [], name
        assert find_problems({}) == []


class NotifyTests:
    def test_is_switched_for_all_queues_or_by_name(self, settings: Settings) -> None:
        answers = []
        for switch in (True, False, {"mail": False, "sms": True}):
            settings.DURABLE = {"NOTIFY": switch}
            answers.append([get_settings().notifies(name) for name in ("mail", "sms", "other")])

        assert answers == [[True, True, True], [False, False, False], [False, True, True]]
