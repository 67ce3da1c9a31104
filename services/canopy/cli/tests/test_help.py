"""Every command explains itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from canopy import cli
from canopy.cli.main import application
from canopy.launch.units import UNITS


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, (*path, name))


ALL = dict(commands(typer.main.get_command(application())))
ROOT = Path(__file__).parents[4]
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
NOT_YET = {"edge upgrade", "resync"}
"""What documents say is missing."""
SHOWN = re.compile(r"(?:^|[`(\s/])(?<!-n )canopy ([a-z]+[^`|#;()\n]*)", re.M)


def shown() -> Iterator[tuple[Path, list[str]]]:
    """The words after `canopy` of each command line in code of a document; after a backslash it goes on."""
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*/*.md")):
        code = "\n".join(CODE.findall(document.read_text())).replace("\\\n", " ")
        for found in SHOWN.findall(code):
            if found.strip() not in NOT_YET:
                yield document, found.split()


def test_the_walk_finds_the_commands_that_there_should_be() -> None:
    wanted = {
        "demo",
        "run",
        "version",
        "device list",
        "device get",
        "device set",
        "device watch",
        "device why",
        "status",
        "node list",
        "mapper run",
    }
    assert wanted <= {" ".join(path) for path in ALL}


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_command_has_help_with_an_example_of_its_own(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert "Examples:\n" in (command.help or "")
    examples = [text.strip() for text in command.help.split("Examples:\n")[1].splitlines()]
    assert any(text.startswith(" ".join(["canopy", *path])) for text in examples)


@pytest.mark.parametrize(
    "path", [p for p in ALL if p and not hasattr(ALL[p], "commands") and p != ("version",)], ids=" ".join
)
def test_every_command_that_can_fail_documents_its_exit_codes(path: tuple[str, ...]) -> None:
    assert "Exit codes:" in ALL[path].help


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_option_and_argument_is_explained(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        assert getattr(parameter, "help", ""), f"{' '.join(path)} {parameter.name}"


@pytest.mark.parametrize(
    "path", [p for p in ALL if p and ((p[0] in ("device", "node") and len(p) > 1) or p == ("status",))], ids=" ".join
)
def test_whatever_asks_the_api_speaks_json_too(path: tuple[str, ...]) -> None:
    assert "output" in {p.name for p in ALL[path].params}


def imported(name: str, seen: set[str]) -> set[str]:
    """What `canopy.cli.NAME` imports at its top, and whatever of the command line that leads to."""
    folder = Path(next(iter(cli.__path__)))
    for node in ast.parse((folder / f"{name}.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found = {f"{node.module}.{one.name}" for one in node.names} | {node.module}
            new = {one.removeprefix("canopy.cli.") for one in found - seen if one.startswith("canopy.cli.")}
            seen |= found
            for one in new:
                if (folder / f"{one}.py").is_file():
                    imported(one, seen)
    return seen


def test_the_command_line_starts_without_the_code_of_any_unit_which_is_not_in_its_image() -> None:
    found = imported("main", set())
    assert {"canopy.cli.doctor_files", "canopy.launch.units"} <= found
    assert [name for name in sorted(found) if name.split(".")[1:2] and name.split(".")[1] in UNITS] == []


def test_each_command_that_a_document_shows_exists_and_has_the_options() -> None:
    count = 0
    for count, (document, words) in enumerate(shown(), 1):  # noqa: B007
        group = hasattr(ALL.get((words[0],)), "commands")
        path = (words[0], *(word for word in words[1:2] if group and not word.startswith("-")))
        assert path in ALL, f"{document.name}: canopy {' '.join(words)}"
        known = {option for parameter in ALL[path].params for option in parameter.opts} | {"--help", "-h"}
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert given <= known, f"{document.name}: canopy {' '.join(words)}: {sorted(given - known)}"
    assert count > 50
