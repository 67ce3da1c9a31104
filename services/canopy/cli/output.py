"""How results are shown: rich tables on a terminal, aligned plain lines in a pipe, JSON when asked."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Output(StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="table: for people (plain lines in a pipe); json: for programs.")
]

CONTROL_CHARACTERS = dict.fromkeys(range(32), " ") | {127: " "}


def line(text: str) -> None:
    """One line on stdout, flushed at once: whoever reads a pipe sees it when it happens."""
    print(text, flush=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    line(json.dumps(value, indent=indent, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows under their columns; a terminal gets a rich table, a pipe aligned lines with a head like kubectl's."""
    cells = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _rich(columns, cells)
    for text in aligned([[c.upper() for c in columns], *cells]):
        line(text)


def _rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    drawn = Table(*columns, header_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row as one line, its cells padded to the widest of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def shown(value: Any) -> str:
    """A cell: what a device wrote must neither break a line nor steer a terminal."""
    if value is None or value == "":
        return "-"
    return str(value).translate(CONTROL_CHARACTERS)


def clock(ms: int | None) -> str:
    """A time in ms since 1970 as the clock on the wall, with the day if it is not today."""
    if not ms:
        return ""
    then = datetime.fromtimestamp(ms / 1000)
    text = f"{then:%H:%M:%S}.{ms % 1000:03}"
    return text if then.date() == datetime.now().date() else f"{then:%Y-%m-%d} {text}"
