"""What jobs take along from where they were enqueued: language, time zone, user, and more."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import timezone as offset
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, Client, RequestFactory
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

from django_durable import (
    acting_as,
    acurrent_user,
    aenqueue,
    current_user,
    enqueue,
    enqueue_many,
    map_task,
    sleep,
    step,
    task,
)
from django_durable.engine.context import capture, describe
from django_durable.exceptions import InvalidOptionError, NotSerializableError
from django_durable.middleware import EnqueuedByMiddleware
from django_durable.models import Job
from tests.builders import (
    HOUR,
    ended_job,
    error_of,
    policy,
    redeployed,
    resumed_job,
    rewritten_job,
    statements,
)
from tests.testapp import tenants
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db

TENANTS = {"tenant": "tests.testapp.tenants.TenantProvider"}


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    tenants.LOG.clear()


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna")


def where() -> list[Any]:
    """What is in force: language, time zone, user, tenant."""
    user = current_user()
    return [
        translation.get_language(),
        timezone.get_current_timezone_name(),
        user and user.get_username(),
        tenants.tenant.get(),
    ]


HERE = ["en-us", "UTC", None, None]


@task(path="context.tell")
def tell() -> list[Any]:
    return where()


@task(path="context.tell_of")
def tell_of(item: str) -> list[Any]:
    return where()


def telling(body: Callable[[], Any], **options: Any) -> Any:
    return redeployed("context.body", body, **options)


def stored(job: Job) -> Any:
    return json.loads(job.context) if job.context is not None else None


class LanguageAndTimeZoneTests:
    def test_by_default_nothing_is_stored_and_nothing_asked(self) -> None:
        with statements() as sent:
            job = enqueue(tell)

        assert job.context is None
        assert len(sent) == 1
        assert resumed_job(job).return_value == HERE

    def test_the_defaults_themselves_are_not_stored(self) -> None:
        with translation.override("en-us"), timezone.override("UTC"):
            assert enqueue(tell).context is None
        with translation.override(None, deactivate=True):
            assert enqueue(tell).context is None

    def test_what_is_in_force_when_enqueueing_is_in_force_in_the_job(self) -> None:
        with translation.override("de"), timezone.override("Asia/Tokyo"):
            job = enqueue(tell)

        assert stored(job) == {"language": "de", "timezone": "Asia/Tokyo"}
        assert stored(Job.objects.get()) == stored(job)
        with translation.override("fr"), timezone.override("Europe/Paris"), acting_as(None):
            assert resumed_job(job).return_value == ["de", "Asia/Tokyo", None, None]
            assert where()[:2] == ["fr", "Europe/Paris"]

    def test_a_fixed_offset_travels_too(self) -> None:
        with timezone.override(offset(timedelta(hours=-9, minutes=-30))):
            job = enqueue(tell)

        assert stored(job) == {"timezone": -34200.0}
        assert resumed_job(job).return_value[1] == "UTC-09:30"

    @pytest.mark.parametrize("how", ["keyed", "many", "async", "atomic"])
    def test_every_way_of_enqueueing_takes_it_along(self, how: str) -> None:
        atomic = redeployed("context.atomic", where, atomic=True)
        ways: dict[str, Callable[[], Job]] = {
            "keyed": lambda: enqueue(tell.using(idempotency_key="k")),
            "many": lambda: enqueue_many([tell.bind()])[0],
            "async": lambda: async_to_sync(aenqueue)(tell),
            "atomic": lambda: enqueue(atomic),
        }
        with translation.override("de"):
            job = ways[how]()

        assert resumed_job(job).return_value[0] == "de"

    def test_an_async_task_has_it(self) -> None:
        async def body() -> list[Any]:
            await asyncio.sleep(0)
            return [translation.get_language(), await sync_to_async(translation.get_language)()]

        with translation.override("de"):
            job = ended_job(telling(body))

        assert job.return_value == ["de", "de"]

    def test_the_argument_and_the_return_value_are_made_in_it(self) -> None:
        with translation.override("de"):
            job = ended_job(telling(lambda: translation.gettext_lazy("Yes")))

        assert job.return_value == "Ja"

    def test_each_replay_and_each_step_has_it(self) -> None:
        seen: list[str | None] = []

        @step
        def note() -> None:
            seen.append(translation.get_language())

        def body() -> None:
            note()
            sleep(HOUR)
            note()

        with translation.override("de"):
            job = enqueue(telling(body))
        resumed_job(job)
        resumed_job(job, ahead=HOUR)

        assert (job.state, seen) == ("SUCCESSFUL", ["de", "de"])

    def test_a_time_zone_this_machine_does_not_know_fails_the_attempt(self) -> None:
        job = rewritten_job(
            telling(where, retry=policy(2)).enqueue(), context='{"timezone":"Mars/Base"}'
        )

        assert resumed_job(job).state == "SCHEDULED"
        assert "No time zone found with key Mars/Base" in error_of(job)["message"]

    @pytest.mark.parametrize(
        "context",
        ["[1]", '"de"', '{"language":5}', '{"timezone":[]}', '{"user":3}', '{"user":{"a":1}}'],
    )
    def test_what_no_enqueueing_wrote_fails_the_job(self, context: str) -> None:
        job = resumed_job(rewritten_job(enqueue(tell), context=context))

        assert job.state == "FAILED"
        assert "its context is not what was enqueued" in error_of(job)["message"]


class ChildTests:
    def test_children_inherit(self, anna: User) -> None:
        with translation.override("de"), acting_as(anna):
            ended_job(telling(lambda: [enqueue(tell), enqueue_many([tell.bind()])]))

        children = Job.objects.filter(task_path=tell.path)
        assert [child.return_value[:3] for child in children] == [["de", "UTC", "anna"]] * 2

    def test_awaited_children_too(self) -> None:
        with translation.override("de"):
            job = enqueue(telling(lambda: [tell.start().result(), *map_task(tell_of, ["x"])]))
        for _ in range(3):
            resumed_job(job)

        assert [found[0] for found in job.return_value] == ["de", "de"]

    def test_unless_the_parent_changes_it(self, anna: User) -> None:
        def body() -> None:
            with translation.override("fr"), acting_as(None):
                enqueue(tell)
            with translation.override("en-us"):
                enqueue(tell)

        with translation.override("de"), acting_as(anna):
            ended_job(telling(body))

        children = Job.objects.filter(task_path=tell.path).order_by("id")
        assert [child.return_value[0] for child in children] == ["fr", "en-us"]
        assert [child.return_value[2] for child in children] == [None, "anna"]

    def test_what_this_process_cannot_name_is_handed_on_as_it_is(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": TENANTS}
        tenants.tenant.set("acme")
        job = enqueue(telling(lambda: str(enqueue(tell).pk)))
        tenants.tenant.set(None)
        settings.DURABLE = {}

        resumed_job(job)

        child = Job.objects.get(task_path=tell.path)
        assert (child.state, stored(child)) == ("SUCCESSFUL", {"tenant": "acme"})


class UserTests:
    def test_outside_there_is_nobody(self) -> None:
        assert current_user() is None
        assert ended_job(tell).return_value == HERE

    def test_acting_as_somebody(self, anna: User) -> None:
        with acting_as(anna):
            assert current_user() == anna
            with acting_as(None):
                assert current_user() is None
            job = enqueue(tell)
        assert current_user() is None

        assert stored(job) == {"user": {"$model": ["auth.user", anna.pk]}}
        assert resumed_job(job).return_value[2] == "anna"

    def test_the_user_is_fetched_fresh_and_only_when_asked_for(self, anna: User) -> None:
        with acting_as(anna):
            jobs = [enqueue(telling(lambda: None)), enqueue(tell)]
        User.objects.update(username="anne")

        with statements() as sent:
            resumed_job(jobs[0])

        assert resumed_job(jobs[1]).return_value[2] == "anne"
        assert len([sql for sql in sent if "auth_user" in sql]) == 1  # by the second job

    def test_a_user_who_is_gone_is_nobody(self, anna: User) -> None:
        with acting_as(anna):
            job = enqueue(tell)
            User.objects.all().delete()
            assert current_user() is None

        assert resumed_job(job).return_value[2] is None

    def test_a_user_of_a_model_that_is_no_longer_the_sites_is_nobody(self) -> None:
        account = Account.objects.create(name="anna")
        context = json.dumps({"user": {"$model": ["testapp.account", account.pk]}})

        job = resumed_job(rewritten_job(enqueue(tell), context=context))

        assert job.return_value[2] is None

    def test_async_code_asks_by_its_own_verb(self, anna: User) -> None:
        async def body() -> str:
            user = await acurrent_user()
            return str(user.get_username())

        with acting_as(anna):
            job = ended_job(telling(body))

        assert job.return_value == "anna"

    def test_a_lazy_user_is_a_user_and_an_anonymous_one_nobody(self, anna: User) -> None:
        with acting_as(SimpleLazyObject(lambda: anna)):
            assert current_user() == anna
        with acting_as(AnonymousUser()):
            assert current_user() is None

    @pytest.mark.parametrize(
        ("user", "reason"),
        [
            ("anna", "it is no auth.User; for nobody pass None."),
            (3, "it is no auth.User"),
            (User(username="new"), "the User is not saved; save it first"),
            (User(pk=7, username="new"), "the User is not saved"),
        ],
    )
    def test_what_is_no_saved_user_is_refused(self, user: Any, reason: str) -> None:
        with pytest.raises(InvalidOptionError) as caught, acting_as(user):
            pass

        assert reason in str(caught.value)


class MiddlewareTests:
    def test_a_view_enqueues_in_the_name_of_who_is_logged_in(
        self, anna: User, client: Client, settings: Any
    ) -> None:
        own = "django_durable.middleware.EnqueuedByMiddleware"
        settings.MIDDLEWARE = [own, *settings.MIDDLEWARE]
        settings.ROOT_URLCONF = "tests.testapp.asking_urls"

        nobody = client.get("/who/").json()
        client.force_login(anna)
        somebody = client.get("/who/").json()

        assert (nobody["user"], somebody["user"]) == (None, "anna")
        jobs = [Job.objects.get(pk=answer["job"]) for answer in (nobody, somebody)]
        assert [stored(job) for job in jobs] == [None, {"user": {"$model": ["auth.user", anna.pk]}}]
        assert current_user() is None

    def test_who_logs_in_during_the_request_counts_from_then_on(
        self, anna: User, rf: RequestFactory
    ) -> None:
        seen: list[Any] = []

        def view(request: HttpRequest) -> HttpResponse:
            seen.append(current_user())
            request.user = anna
            seen.append(current_user())
            return HttpResponse()

        EnqueuedByMiddleware(view)(rf.get("/"))

        assert seen == [None, anna]

    def test_nobody_is_asked_for_without_need(self, rf: RequestFactory) -> None:
        def refuse() -> User:
            raise AssertionError("asked who is logged in")

        def view(request: HttpRequest) -> HttpResponse:
            request.user = SimpleLazyObject(refuse)  # type: ignore[assignment]  # as Django does
            return HttpResponse("fine")

        assert EnqueuedByMiddleware(view)(rf.get("/")).content == b"fine"  # type: ignore[union-attr]  # not awaited

    def test_a_view_that_fails_leaves_nobody_behind(self, anna: User, rf: RequestFactory) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            raise LookupError

        request = rf.get("/")
        request.user = anna
        with pytest.raises(LookupError):
            EnqueuedByMiddleware(view)(request)

        assert current_user() is None

    def test_async_views_are_served_and_kept_apart(self) -> None:
        users = [User(pk=number, username=f"u{number}") for number in (1, 2)]
        for user in users:
            user._state.adding = False
        inside: list[asyncio.Event] = []

        async def view(request: HttpRequest) -> HttpResponse:
            inside.append(asyncio.Event())
            own = inside[-1]
            if len(inside) == 2:
                [event.set() for event in inside]
            await own.wait()
            return HttpResponse(await sync_to_async(capture)())

        async def ask(user: User) -> str:
            request = AsyncRequestFactory().get("/")
            request.user = user
            response = await EnqueuedByMiddleware(view)(request)  # type: ignore[misc]  # awaited here
            return str(response.content.decode())

        async def both() -> list[str]:
            return await asyncio.gather(*map(ask, users))

        answers = async_to_sync(both)()

        assert iscoroutinefunction(EnqueuedByMiddleware(view))
        assert [json.loads(a)["user"]["$model"][1] for a in answers] == [1, 2]


class ProviderTests:
    @pytest.fixture(autouse=True)
    def _no_tenant(self) -> Any:
        token = tenants.tenant.set(None)
        yield
        tenants.tenant.reset(token)

    def test_takes_along_what_it_says(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": TENANTS}
        tenants.tenant.set({"name": "acme", "since": datetime(2026, 1, 1, tzinfo=UTC)})
        job = enqueue(tell)
        tenants.tenant.set(None)

        assert resumed_job(job).return_value[3] == {
            "name": "acme",
            "since": datetime(2026, 1, 1, tzinfo=UTC),
        }
        assert [line[:3] for line in tenants.LOG] == ["in ", "out"]
        assert where() == HERE

    def test_model_instances_are_fetched_fresh(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": TENANTS}
        account = Account.objects.create(name="acme")
        tenants.tenant.set(account)
        jobs = [enqueue(telling(lambda: tenants.tenant.get().name)) for _ in range(2)]
        Account.objects.update(name="ACME")
        assert resumed_job(jobs[0]).return_value == "ACME"
        third = enqueue(telling(lambda: None))
        Account.objects.all().delete()

        assert resumed_job(third).state == "FAILED"
        assert "testapp.account" in error_of(third)["message"]

    def test_where_nothing_is_in_force_nothing_is_stored(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": TENANTS}

        assert enqueue(tell).context is None
        assert tenants.LOG == []

    @pytest.mark.parametrize("name", ["Curious", "curious"])
    def test_a_class_or_an_object_serves(self, settings: Any, name: str) -> None:
        settings.DURABLE = {"CONTEXT": {"x": f"tests.testapp.tenants.{name}"}}

        assert ended_job(tell).state == "SUCCESSFUL"
        assert tenants.LOG == ["enter", "exit well"]

    @pytest.mark.parametrize(
        ("kind", "how", "state"),
        [
            ("plain", "exit LookupError", "FAILED"),
            ("suspended", "exit Suspension", "WAITING"),
            ("atomic", "exit well", "SUCCESSFUL"),
            ("atomic and failing", "exit LookupError", "FAILED"),
        ],
    )
    def test_sees_how_the_body_ends_and_cannot_change_it(
        self, settings: Any, kind: str, how: str, state: str
    ) -> None:
        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.Curious"}}

        def fail() -> None:
            raise LookupError

        bodies: dict[str, Any] = {
            "plain": telling(fail),
            "suspended": redeployed("context.suspended", lambda: sleep(HOUR)),
            "atomic": redeployed("context.atomic", lambda: None, atomic=True),
            "atomic and failing": redeployed("context.failing", fail, atomic=True),
        }

        assert ended_job(bodies[kind]).state == state
        assert ["enter", how] == tenants.LOG

    @pytest.mark.parametrize("atomic", [False, True])
    def test_one_that_fails_afterwards_is_only_logged(
        self, settings: Any, caplog: pytest.LogCaptureFixture, atomic: bool
    ) -> None:
        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.FailsAtTheEnd"}}

        job = ended_job(telling(lambda: 7, atomic=atomic))

        assert job.return_value == 7
        assert "DURABLE['CONTEXT']['x'] failed after the body had ended" in caplog.text
        assert "cannot leave" in caplog.text

    def test_one_that_cannot_restore_fails_the_attempt(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.FailsToRestore"}}
        ran: list[int] = []

        job = ended_job(telling(lambda: ran.append(1), retry=policy(2)))
        assert (job.state, ran) == ("SCHEDULED", [])
        assert error_of(job)["message"] == "no such tenant"
        resumed_job(job, ahead=HOUR)

        assert (job.state, job.attempt, ran) == ("FAILED", 2, [])

    def test_one_that_was_removed_is_ignored_with_a_warning(
        self, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = rewritten_job(enqueue(tell), context='{"tenant":"acme","language":"de"}')

        assert resumed_job(job).return_value == ["de", "UTC", None, None]
        assert "its context has 'tenant', which DURABLE['CONTEXT'] does not name" in caplog.text

    def test_one_that_cannot_capture_refuses_the_enqueueing(self, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.FailsToCapture"}}
        with pytest.raises(LookupError, match="no tenant is chosen"):
            enqueue(tell)

        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.CapturesNothingStorable"}}
        with pytest.raises(NotSerializableError, match="the context 'x' cannot be stored"):
            enqueue(tell)

        assert Job.objects.count() == 0

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("tests.testapp.gone.Provider", "cannot be loaded: ModuleNotFoundError"),
            ("tests.testapp.tenants.Gone", "cannot be loaded: ImportError"),
            ("tests.testapp.tenants.nothing", "has no capture()."),
        ],
    )
    def test_one_that_cannot_be_loaded_is_said_so(
        self, settings: Any, path: str, reason: str
    ) -> None:
        settings.DURABLE = {"CONTEXT": {"x": path}}

        with pytest.raises(ImproperlyConfigured) as caught:
            enqueue(tell)

        assert f"DURABLE['CONTEXT']['x'] = '{path}' {reason}" in str(caught.value)

    def test_it_is_asked_once_for_many_jobs(self, settings: Any) -> None:
        asked: list[int] = []
        settings.DURABLE = {"CONTEXT": {"x": "tests.testapp.tenants.Curious"}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tenants.Curious, "capture", lambda self: asked.append(1) or "here")
            jobs = enqueue_many(tell.bind() for _ in range(5))

        assert len(asked) == 1
        assert [stored(job) for job in jobs] == [{"x": "here"}] * 5


class DescriptionTests:
    def test_says_who_and_where_in_a_line(self, anna: User, settings: Any) -> None:
        settings.DURABLE = {"CONTEXT": TENANTS}
        token = tenants.tenant.set("acme")
        with acting_as(anna), translation.override("de"), timezone.override("Europe/Berlin"):
            job = enqueue(tell)
        tenants.tenant.reset(token)

        assert describe(job.context) == 'enqueued by anna, de, Europe/Berlin, tenant "acme"'
        User.objects.all().delete()
        assert describe(job.context).startswith(f"enqueued by ['auth.user', {anna.pk}] (gone), de")

    def test_says_nothing_of_nothing_and_whatever_stands_there(self) -> None:
        assert describe(None) == ""
        assert describe('{"timezone":3600}') == "UTC+01:00"
        assert describe("[1]") == "[1]"
        assert len(describe(json.dumps({"tenant": "x" * 500}))) == len("tenant ") + 100
        assert describe('{"user":{"$model":["auth.user","?"]}}').endswith("'?'] (gone)")
