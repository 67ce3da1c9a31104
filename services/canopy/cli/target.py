"""Where the fleet API is and with which token: options, else CANOPY_API_URL and CANOPY_API_TOKEN, else a demo's file.

The demo's file is `.demo/endpoints.json` in the working folder or one above it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from canopy.cli.failure import NO_CONNECTION, Failure, UsageFailure

URL_VARIABLE, TOKEN_VARIABLE = "CANOPY_API_URL", "CANOPY_API_TOKEN"
DEMO_FILE = Path(".demo/endpoints.json")

UrlOption = Annotated[
    str, typer.Option("--api-url", envvar=URL_VARIABLE, help="The fleet API; else that of the demo in this folder.")
]
TokenOption = Annotated[
    str, typer.Option("--api-token", envvar=TOKEN_VARIABLE, help="Its bearer token; else that of the demo.")
]


@dataclass(frozen=True, slots=True)
class Target:
    """A fleet API: base URL without a slash at its end, bearer token or ""."""

    url: str
    token: str


def find(url: str, token: str, folder: Path | None = None) -> Target:
    """The API that is meant. Raises Failure (nothing says where it is) or UsageFailure (not a URL)."""
    if url:
        return Target(_checked(url), token)
    demo = demo_endpoints(folder or Path.cwd())
    if demo is None:
        raise Failure(
            f"where is the fleet API? Say --api-url http://HOST:PORT or set {URL_VARIABLE}, or work in a folder where "
            f"`canopy demo` is up (no {DEMO_FILE} here or above)",
            NO_CONNECTION,
        )
    return Target(_checked(demo.get("api_url", "")), token or demo.get("api_token", ""))


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")) or len(url.split("/", 3)[2]) == 0:
        raise UsageFailure(f"--api-url is {url!r}: it should be http://HOST:PORT or https://HOST:PORT")
    return url.rstrip("/")


def demo_endpoints(folder: Path) -> Mapping[str, str] | None:
    """What the demo that is up in `folder`, or in one above it, offers; None if there is none."""
    for file in _candidates(folder):
        if file.is_file() and os.access(file, os.R_OK):
            try:
                found: dict[str, str] = json.loads(file.read_text())
            except ValueError:
                raise Failure(f"{file} is not JSON: end that demo and start it again") from None
            return found
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    for place in (folder, *folder.parents):
        yield place / DEMO_FILE
