"""What the demo shows while it goes on: rich on a terminal, plain lines in a pipe, JSON lines when asked."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status

from canopy.cli.output import Output, line


class Screen(Protocol):
    """A story is told step by step; seconds are since the step began."""

    def begin(self, number: int, title: str) -> None: ...

    def tell(self, seconds: float, text: str) -> None: ...

    def done(self, seconds: float) -> None: ...

    def failed(self, number: int, title: str, why: str, logs: Sequence[tuple[str, str]]) -> None:
        """`logs` are (process, last lines of its log)."""

    def offer(self, tries: Sequence[tuple[str, str]], endpoints: dict[str, Any]) -> None:
        """The demo is up: what to try, as (what it does, the line)."""

    def say(self, text: str) -> None: ...


def screen_for(output: Output) -> Screen:
    if output is Output.JSON:
        return JsonScreen()
    return RichScreen() if sys.stdout.isatty() else PlainScreen()


class PlainScreen:
    """For pipes and logs: every line is written when it happens."""

    def begin(self, number: int, title: str) -> None:
        line(f"\n{number}. {title}")

    def tell(self, seconds: float, text: str) -> None:
        line(f"   {seconds:6.2f} s  {text}")

    def done(self, seconds: float) -> None:
        line(f"   done in {seconds:.2f} s")

    def failed(self, number: int, title: str, why: str, logs: Sequence[tuple[str, str]]) -> None:
        line(f"\nFAILED in step {number}, {title}:\n{why}")
        for process, lines in logs:
            line(f"\nThe last log lines of {process}:\n{lines}")

    def offer(self, tries: Sequence[tuple[str, str]], endpoints: dict[str, Any]) -> None:
        line("\nTry, in another terminal:")
        for what, command in tries:
            line(f"  # {what}\n  {command}")

    def say(self, text: str) -> None:
        line(text)


class RichScreen:
    """For people at a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def begin(self, number: int, title: str) -> None:
        self._console.print(f"\n[bold]{number}. {escape(title)}[/bold]")
        self._status = self._console.status("[dim]...[/dim]", spinner="dots")
        self._status.start()

    def tell(self, seconds: float, text: str) -> None:
        self._console.print(f"   [cyan]{seconds:6.2f} s[/cyan]  {escape(text)}")

    def done(self, seconds: float) -> None:
        self._rest()
        self._console.print(f"   [green]done in {seconds:.2f} s[/green]")

    def failed(self, number: int, title: str, why: str, logs: Sequence[tuple[str, str]]) -> None:
        self._rest()
        self._console.print(f"\n[bold red]FAILED in step {number}, {escape(title)}[/bold red]\n{escape(why)}")
        for process, lines in logs:
            self._console.print(f"\nThe last log lines of [bold]{escape(process)}[/bold]:\n[dim]{escape(lines)}[/dim]")

    def offer(self, tries: Sequence[tuple[str, str]], endpoints: dict[str, Any]) -> None:
        self._console.print(
            Panel("[bold]It is up.[/bold] Try, in another terminal; Ctrl-C here ends all of it.", expand=False)
        )
        for what, command in tries:
            self._console.print(f"  [dim]# {escape(what)}[/dim]\n  [bold]{escape(command)}[/bold]")

    def say(self, text: str) -> None:
        self._rest()
        self._console.print(escape(text))

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class JsonScreen:
    """For programs: one object a line, `event` says which."""

    def begin(self, number: int, title: str) -> None:
        self._event("step", number=number, title=title)

    def tell(self, seconds: float, text: str) -> None:
        self._event("told", seconds=round(seconds, 3), text=text)

    def done(self, seconds: float) -> None:
        self._event("done", seconds=round(seconds, 3))

    def failed(self, number: int, title: str, why: str, logs: Sequence[tuple[str, str]]) -> None:
        self._event("failed", number=number, title=title, why=why, logs=dict(logs))

    def offer(self, tries: Sequence[tuple[str, str]], endpoints: dict[str, Any]) -> None:
        self._event("up", endpoints=endpoints, tries=[{"what": what, "line": command} for what, command in tries])

    def say(self, text: str) -> None:
        self._event("said", text=text)

    def _event(self, event: str, **more: Any) -> None:
        line(json.dumps({"event": event, **more}, ensure_ascii=False))
