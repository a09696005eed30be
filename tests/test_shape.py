"""The shape of the code: sizes, floors, statements in their files, docs that name everything."""

import ast
import re
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.management import BaseCommand, call_command, find_commands, load_command_class

from django_durable.conf import Settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "django_durable"
SOURCES = sorted(
    path
    for folder in ("django_durable", "example_project", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 50
LINES_OF_A_CLASS = 250
TYPE_IGNORES = 5


def nodes_of(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def loaded_statements(path: Path) -> Iterator[str]:
    """The NAME of each ``load("NAME")`` in a module."""
    for node in nodes_of(path):
        match node:
            case ast.Call(
                func=ast.Name(id="load") | ast.Attribute(attr="load"),
                args=[ast.Constant(value=str(name))],
            ):
                yield name


def documentation() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))


def options_of(parser: ArgumentParser) -> set[str]:
    """The long options of a command's parser and of its subcommands' parsers."""
    found: set[str] = set()
    for action in parser._actions:
        found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                found |= options_of(subparser)
    return found


class SizeTests:
    @pytest.mark.parametrize("path", SOURCES, ids=NAMES)
    def test_files_functions_and_classes_are_small(self, path: Path) -> None:
        limits: dict[type[ast.AST], int] = {
            ast.FunctionDef: LINES_OF_A_FUNCTION,
            ast.AsyncFunctionDef: LINES_OF_A_FUNCTION,
            ast.ClassDef: LINES_OF_A_CLASS,
        }
        too_long = [
            f"{node.name} in line {node.lineno}"
            for node in nodes_of(path)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and (node.end_lineno or 0) - node.lineno + 1 > limits[type(node)]
        ]

        assert too_long == []
        assert len(path.read_text().splitlines()) <= LINES_OF_A_FILE

    def test_types_are_ignored_rarely_and_with_a_reason(self) -> None:
        marks = [
            f"{name}: {line.strip()}"
            for name, path in zip(NAMES, SOURCES, strict=True)
            for line in path.read_text().splitlines()
            if re.search(r"#\s*type:\s*ignore", line)
        ]
        bare = [
            mark for mark in marks if not re.search(r"# type: ignore\[[a-z\-, ]+\]  # \w", mark)
        ]

        assert bare == []
        assert len(marks) <= TYPE_IGNORES, "\n".join(marks)


class StatementTests:
    def test_each_sql_file_is_loaded_once(self) -> None:
        files = [path.stem for path in (PACKAGE / "engine" / "sql").glob("*.sql")]
        loads = [name for path in SOURCES for name in loaded_statements(path)]

        assert files
        assert Counter(loads) == Counter(files)

    def test_each_sql_file_has_its_header(self) -> None:
        labels = ["Does:", "Takes:", "Returns:", "Locks:", "Index:"]
        for path in sorted((PACKAGE / "engine" / "sql").glob("*.sql")):
            assert re.findall(r"^-- (\w+:)", path.read_text(), re.MULTILINE) == labels, path.name
            assert "now()" not in path.read_text(), f"{path.name}: say statement_timestamp()"


class FloorTests:
    def test_each_module_stands_on_a_floor(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        layers = " ".join(project["tool"]["importlinter"]["contracts"][0]["layers"])
        rooms = [*PACKAGE.iterdir(), *(PACKAGE / "engine").iterdir()]
        modules = {
            ".".join(room.relative_to(PACKAGE).with_suffix("").parts)
            for room in rooms
            if room.suffix == ".py" or (room / "__init__.py").exists()
        }

        homeless = modules - set(re.findall(r"[\w.]+", layers))
        assert homeless == {"__init__", "engine", "engine.__init__", "migrations"}

    def test_modules_import_only_from_lower_floors(self) -> None:
        program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
        command = [sys.executable, "-c", program]

        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

        assert result.returncode == 0, result.stdout

    def test_public_names_are_there_before_the_app_registry(self) -> None:
        program = (
            "import django_durable\n"
            "from django_durable import *\n"
            "from django.apps import apps\n"
            "assert not apps.ready\n"
            "for name in django_durable.__all__: assert name in globals(), name\n"
        )
        command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.')\n{program}"]

        result = subprocess.run(
            command, cwd=ROOT, env={}, capture_output=True, text=True, check=False
        )

        assert result.returncode == 0, result.stderr


class MigrationTests:
    @pytest.mark.django_db
    def test_migrations_match_the_models(self) -> None:
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)


class DocumentationTests:
    @pytest.mark.parametrize("key", [field.name for field in fields(Settings)])
    def test_each_setting_is_explained(self, key: str) -> None:
        assert f"`{key}`" in documentation()

    def test_each_check_is_explained(self) -> None:
        code = "\n".join(path.read_text() for path in SOURCES)
        ids = sorted(set(re.findall(r"\bdurable\.[EWI]\d{3}\b", code)))
        docs = documentation()

        assert ids
        assert [check for check in ids if f"`{check}`" not in docs] == []

    @pytest.mark.parametrize("name", find_commands(str(PACKAGE / "management")))
    def test_each_option_of_a_command_is_explained(self, name: str) -> None:
        command = load_command_class("django_durable", name)
        common = options_of(BaseCommand().create_parser("manage.py", name))
        options = options_of(command.create_parser("manage.py", name)) - common
        docs = documentation()

        assert f"manage.py {name}" in docs
        assert [option for option in sorted(options) if f"`{option}" not in docs] == []
