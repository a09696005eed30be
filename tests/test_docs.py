"""The documentation is true: its examples run, its links lead somewhere, its tests exist."""

import ast
import os
import re
import sys
from dataclasses import fields
from datetime import timedelta
from inspect import isclass, signature
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any, get_overloads

import pytest
from django.db import connection
from django.test import RequestFactory

import django_durable
from django_durable import exceptions, testing
from django_durable.conf import find_problems
from django_durable.contrib.embedded.__main__ import main as embedded
from django_durable.engine import registry
from django_durable.testing import run_jobs
from tests.docs_app import bank, models, post
from tests.documents import (
    DOCS,
    ROOT,
    Block,
    Command,
    Shell,
    anchors_of,
    blocks_of,
    commands_of,
    links_of,
    name_of,
    named_tests,
    pages,
    prose_of,
    run_cases_in,
)

TUTORIAL = DOCS / "tutorial.md"
API = DOCS / "reference" / "api.md"
RETRIES = DOCS / "howto" / "retries.md"
RUN = [ROOT / "README.md", *sorted((DOCS / "howto").glob("*.md"))]
WIDTH = 90
OTHERS_WORDS = r"\b(rescu\w+|reap\w*|zombies?|orphan\w*|stuck)\b"
PLUG = "plug"
PAUSE = f"""
import time
from pathlib import Path


def pause():
    while Path("{PLUG}").exists():
        time.sleep(0.05)
"""
"""In the tutorial's folder: who takes his time there takes it until the plug is pulled."""


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The namespace of ``shop.tasks``, in which a page's blocks run; ``shop`` can be imported."""
    modules = {name: ModuleType(name) for name in ("shop", "shop.tasks")}
    modules |= {"shop.bank": bank, "shop.models": models, "shop.post": post}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        setattr(modules["shop"], name.rpartition(".")[2], module)
    monkeypatch.setattr(bank, "fails_with", [])
    monkeypatch.setattr(post, "arrivals", {})
    return vars(modules["shop.tasks"])


def run(block: Block, namespace: dict[str, Any], known_before: set[str]) -> None:
    """Execute a block. The whole of ``shop/tasks.py`` replaces the tasks that were there."""
    if block.file == "shop/tasks.py":
        for path in set(registry.known_paths()) - known_before:
            registry.forget(path)
    exec(block.code, namespace)


def show(page: Path) -> str:
    return name_of(page)


class ExampleTests:
    @pytest.mark.parametrize("page", pages(), ids=show)
    def test_every_python_block_compiles(self, page: Path) -> None:
        for block in blocks_of(page, "python"):
            assert block.code

    @pytest.mark.parametrize("page", pages()[1:], ids=show)
    def test_blocks_are_as_wide_as_the_page(self, page: Path) -> None:
        lines = [line for b in blocks_of(page, "python", "console") for line in b.text.splitlines()]

        assert [line for line in lines if len(line) > WIDTH] == []

    @pytest.mark.parametrize("page", RUN, ids=show)
    @pytest.mark.django_db
    def test_the_blocks_of_a_page_run_in_order(self, page: Path, shop: dict[str, Any]) -> None:
        known = set(registry.known_paths())
        for block in blocks_of(page, "python"):
            run(block, shop, known)
        left = run_jobs(ahead=timedelta(days=30))
        assert [job.error for job in left if job.state == "FAILED"] == []

    @pytest.mark.django_db(transaction=True)
    def test_the_test_cases_of_a_page_pass(self, shop: dict[str, Any]) -> None:
        for block in blocks_of(DOCS / "howto" / "testing.md", "python"):
            run(block, shop, set(registry.known_paths()))

        result = run_cases_in(shop)

        assert result.testsRun > 1
        assert [traceback for _, traceback in (*result.errors, *result.failures)] == []

    @pytest.mark.django_db
    def test_the_order_of_the_readme_is_fulfilled(self, shop: dict[str, Any]) -> None:
        for block in blocks_of(ROOT / "README.md", "python"):
            run(block, shop, set(registry.known_paths()))
        product = models.Product.objects.create(name="tea", stock=3)

        shop["place_order"](RequestFactory().post("/", {"card": "card_good"}), product)
        (job,) = run_jobs()
        assert (job.state, job.wait_kind) == ("WAITING", "event")
        shop["parcel_arrived"](RequestFactory().post("/"), models.Order.objects.get().pk)
        run_jobs()

        job.refresh()
        assert job.state == "SUCCESSFUL"
        product.refresh_from_db()
        assert product.stock == 2
        assert models.Charge.objects.count() == 1
        assert models.Mail.objects.count() == 1

    @pytest.mark.parametrize("page", pages(), ids=show)
    @pytest.mark.django_db
    def test_every_query_runs(self, page: Path) -> None:
        for block in [*blocks_of(page, "sql"), *blocks_of(page, "postgresql")]:
            with connection.cursor() as cursor:
                cursor.execute(block.text)

    def test_settings_in_examples_are_valid(self) -> None:
        found = [
            node.value
            for page in pages()
            for block in blocks_of(page, "python")
            for node in ast.parse(block.text).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DURABLE"
        ]
        names = {"timedelta": timedelta, "RetryPolicy": django_durable.RetryPolicy}

        assert found
        for value in found:
            settings = eval(ast.unparse(value), names)
            problems = find_problems(settings)
            assert [p for p in problems if "an alias of DATABASES" not in p] == []

    @pytest.mark.process
    @pytest.mark.timeout(400)  # thirty processes, one after the other
    def test_the_tutorial_works_as_written(self, tmp_path: Path) -> None:
        """Each file is written and each command typed, in order, into an empty folder."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        (tmp_path / "pausing.py").write_text(PAUSE)
        try:
            with Shell(tmp_path, environment) as shell:
                for block in blocks_of(TUTORIAL):
                    if block.language == "console":
                        type_all(shell, block, tmp_path / PLUG)
                    else:
                        write(block, tmp_path)
        finally:
            if (tmp_path / "pgdata").exists():
                embedded(["remove", str(tmp_path / "pgdata")])


def write(block: Block, folder: Path) -> None:
    """Write the file that a block of the tutorial shows; it takes its time only to be killed."""
    assert block.language == "python"
    assert block.file, f"{block.page}:{block.line}: which file is this?"
    path = folder / block.file
    before = path.read_text() if block.is_addition else ""
    text = block.text.replace("import time\n", "import time\n\nfrom pausing import pause\n")
    path.write_text(before + text.replace("time.sleep(5)", "pause()"))


def type_all(shell: Shell, block: Block, plug: Path) -> None:
    """Type the commands of a block; a worker that is to be killed at work waits there for it."""
    commands = list(commands_of(block))
    for command, following in zip_longest(commands, commands[1:]):
        if following and is_killed_at_work(command, following):
            plug.touch()
        shell.type(command)
        if command.text.startswith("kill -9"):
            plug.unlink(missing_ok=True)


def is_killed_at_work(command: Command, following: Command) -> bool:
    """Whether a worker is killed when the shop's own code has just said something."""
    return following.text.startswith("kill -9") and not command.shown[-1].startswith("INFO")


class ReferenceTests:
    def test_each_public_name_is_explained(self) -> None:
        text = API.read_text()
        names = [*django_durable.__all__, *testing.__all__]

        assert [
            name for name in names if f"`{name}" not in text and f"def {name}(" not in text
        ] == []

    def test_signatures_are_those_of_the_code(self) -> None:
        shown = 0
        for block in blocks_of(API, "python"):
            for node in ast.parse(block.text).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    shown += 1
                    assert parameters_shown(node) == parameters_of(node.name)
        assert shown > 10

    def test_each_option_is_explained(self) -> None:
        explained = {API: django_durable.Task, RETRIES: django_durable.RetryPolicy}
        for page, cls in explained.items():
            text = page.read_text()
            options = [field.name for field in fields(cls) if field.name != "func"]
            assert [name for name in options if f"`{name}`" not in text] == []

    def test_each_error_is_explained(self) -> None:
        text = (DOCS / "reference" / "errors.md").read_text()
        classes = [
            name
            for name, value in vars(exceptions).items()
            if isclass(value) and issubclass(value, BaseException)
        ]

        assert [name for name in classes if f"`{name}`" not in text] == []

    def test_each_named_file_exists(self) -> None:
        package = ROOT / "django_durable"
        named = re.findall(r"`((?:engine/)?\w+\.py)`", (DOCS / "architecture.md").read_text())

        assert named
        assert [name for name in named if not (package / name).exists()] == []

    def test_each_module_of_the_engine_has_its_floor(self) -> None:
        text = (DOCS / "architecture.md").read_text()
        engine = (ROOT / "django_durable" / "engine").glob("[a-z]*.py")
        names = sorted(path.stem for path in engine)

        assert [n for n in names if f"`{n}`" not in text and f"`engine.{n}`" not in text] == []

    def test_each_named_test_exists(self) -> None:
        named = {name for page in pages() for name in named_tests(page)}

        assert named
        assert sorted(name for name in named if not exists(name)) == []

    @pytest.mark.parametrize("page", pages(), ids=show)
    def test_internal_links_lead_somewhere(self, page: Path) -> None:
        for target, anchor in links_of(page):
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), target
            if anchor:
                assert anchor in anchors_of(path), f"{target}#{anchor}"

    @pytest.mark.parametrize("page", pages(), ids=show)
    def test_one_thing_has_one_word(self, page: Path) -> None:
        if page.name != "glossary.md":  # which says them once
            assert re.findall(OTHERS_WORDS, prose_of(page), re.IGNORECASE) == []


def parameters_shown(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    starred = [arguments.vararg] if arguments.vararg else []
    last = [arguments.kwarg] if arguments.kwarg else []
    return [a.arg for a in [*plain, *starred, *arguments.kwonlyargs, *last]]


def parameters_of(name: str) -> list[str]:
    """The parameters of a public function; of a decorator, those of its called form."""
    function = getattr(django_durable, name, None) or getattr(testing, name)
    forms = get_overloads(function) or [function]
    return list(signature(forms[-1]).parameters)


def exists(named: str) -> bool:
    """Whether ``tests/test_x.py::XTests::test_y`` is in that file."""
    path, *parts = named.split("::")
    if not (ROOT / path).exists():
        return False
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    for part in parts:
        found = [
            n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True
