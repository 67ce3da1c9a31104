"""Rules about the text of the code and of the documents, checked by reading them."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from canopy.contracts import measures

ROOT = Path(__file__).parents[2]
SOURCES = [p for root in ("libs", "services") for p in (ROOT / root).rglob("*.py") if "tests" not in p.parts]
_SUBJECT = re.compile(
    r"node\.[^.]+\.(?:ask|in)\..+|edge\.(?:hub|link)\b.*"
    r"|(?:sets|presence|spans|letters|deadletters|twins|sessions|cluster|meta|twin)\.(?:[\w*>{}-]+\.)*[\w*>{}-]+"
    r"|identity\.(?:ask|node|token)\..+|audit\.[^.]+\.[^.]+\.[^.]+"
    r"|\$(?:hw|JS|SYS|MQTT|KV)[./].*"
)
_SUBJECT_HOMES = ("libs/canopy/contracts", "libs/canopy/bus")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_parsed(path)))


@cache
def _strings(path: Path) -> tuple[ast.Constant, ...]:
    documented = {
        id(n.body[0].value)
        for n in _nodes(path)
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and n.body
        and isinstance(n.body[0], ast.Expr)
    }
    return tuple(
        n for n in _nodes(path) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in documented
    )


def test_no_literal_subject_stands_outside_the_catalogue_and_the_bus() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{s.lineno}: {s.value!r}"
        for path in SOURCES
        if not str(path.relative_to(ROOT)).startswith(_SUBJECT_HOMES)
        for s in _strings(path)
        if _SUBJECT.fullmatch(str(s.value))
    ]
    assert found == []


def test_every_module_says_what_it_owns() -> None:
    assert [str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(_parsed(path))] == []


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}::{n.name} {1 + (n.end_lineno or 0) - n.lineno} lines"
        for path in SOURCES
        for n in _nodes(path)
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and (n.end_lineno or 0) - n.lineno >= 60
    ]
    assert long == []


@pytest.mark.parametrize("unit", sorted(p.parent for p in ROOT.glob("services/canopy/*/unit.py")), ids=lambda p: p.name)
def test_every_unit_says_in_five_lines_what_it_owns_and_when_it_fails(unit: Path) -> None:
    text = (unit / "README.md").read_text()
    for word in ("Owns", "Subscribes", "Publishes", "Stores", "When it fails"):
        assert word in text, f"{unit.name}/README.md does not say {word!r}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/walkthroughs/*.md")), ids=lambda p: p.name)
def test_every_hop_of_a_walkthrough_exists(page: Path) -> None:
    hops = re.findall(r"`([\w/.-]+\.py)::([\w.]+)`", page.read_text())
    assert 0 < len(hops) <= 9, f"{len(hops)} hops; at most nine"
    for file, symbol in hops:
        assert _defines(ROOT / file, symbol), f"{page.name}: {file}::{symbol} does not exist"


def _defines(path: Path, symbol: str) -> bool:
    body: list[ast.stmt] = _parsed(path).body
    for name in symbol.split("."):
        match = next((n for n in body if getattr(n, "name", None) == name), None)
        if match is None:
            return False
        body = getattr(match, "body", [])
    return True


def test_the_page_of_metrics_is_the_catalogue() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == measures.page(), (
        "python -m canopy.contracts.measures > docs/metrics.md"
    )


def test_a_metrics_name_and_its_help_say_the_unit_and_only_what_rises_ends_in_total() -> None:
    for measure in measures.MEASURES.values():
        assert measure.name.endswith("_total") == (measure.kind == "counter"), measure.name
        assert measure.kind != "histogram" or measure.name.endswith("_seconds"), measure.name
        said = re.search(r"\(\w.*\)\.$|: 1 or 0\.$|; 0: none\.$|^Always 1;", measure.help)
        assert said, f"{measure.name}: {measure.help}"


def test_every_metric_of_the_code_is_in_the_catalogue() -> None:
    names = {
        str(s.value)
        for path in SOURCES
        for s in _strings(path)
        if re.fullmatch(r"canopy_[a-z]+_[a-z_]*[a-z]", str(s.value)) and "contracts" not in path.parts
    }
    assert names and sorted(names - set(measures.MEASURES)) == []


def test_links_of_the_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_pins_bear_hashes_and_no_address() -> None:
    for path in ROOT.glob("requirements/*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        pins = re.findall(r"^[a-z0-9][\w.-]*==", text, re.M)
        assert pins and text.count("--hash=sha256:") >= len(pins), path


def test_the_edge_installs_no_kubernetes_no_fastapi_and_no_aiohttp() -> None:
    pinned = set(re.findall(r"^([a-z0-9][\w.-]*)==", (ROOT / "requirements/edge.txt").read_text(), re.M))
    assert not pinned & {"kubernetes", "fastapi", "aiohttp", "grpcio", "redis", "uvicorn"}


def test_every_rule_of_the_sync_is_held_somewhere_and_tested_or_listed_as_open() -> None:
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|(.*)\|$", (ROOT / "docs/rules.md").read_text(), re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 33))
    critiques = (ROOT / "CRITIQUES.md").read_text()
    for number, held, tested in rows:
        if "open" in held:
            assert re.search(rf"rules? (?:\d+, )*{number}\b", critiques), f"rule {number} is not in CRITIQUES.md"
            continue
        for file, symbol in re.findall(r"`([\w/.-]+\.py)::([\w.]+)`", held + tested):
            assert _defines(ROOT / file, symbol), f"rule {number}: {file}::{symbol} does not exist"
        assert "::test_" in tested, f"rule {number} has no test"
