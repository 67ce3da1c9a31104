"""Runs the demo: takes the folder, tells the story, offers what is up, minds the processes, and ends them all."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from canopy.cli import offer
from canopy.cli.failure import FAILED, UsageFailure
from canopy.cli.folder import Folder
from canopy.cli.guest import Guest
from canopy.cli.hosting import arrival, hosted
from canopy.cli.output import Output
from canopy.cli.screen import Screen, screen_for
from canopy.cli.story import MODEL_FILE, STEPS, Step, Story
from canopy.kube.errors import KubeError
from canopy.testing.child import tail
from canopy.testing.clients import Refused
from canopy.testing.processes import NotReady
from canopy.testing.servers import NoServer
from canopy.testing.system import System

INTERRUPTED = 130
MIND_SECONDS = 0.5
DRAIN_SECONDS = "4"
NODE, NAMESPACE = "edge-1", "default"
_FAULTS = (TimeoutError, NotReady, NoServer, Refused, KubeError, httpx.HTTPError, OSError, RuntimeError, KeyError)


async def show(
    directory: Path, once: bool, split: bool, output: Output, kubeconfig: Path | None = None, context: str = ""
) -> int:
    """The exit code. Raises Failure, UsageFailure before anything has been started."""
    examples, screen = _examples(), screen_for(output)
    with Folder(directory).taken() as folder:
        async with hosted(folder, kubeconfig, context, screen.say) as guest:
            return await _Show(folder, screen, once, split, examples, guest).run()


def _examples() -> Path:
    """The manifests of the story: in the checkout."""
    folder = Path(__file__).parents[3] / "examples"
    if not (folder / MODEL_FILE).is_file():
        raise UsageFailure(f"there is no {folder / MODEL_FILE}: run the demo in a checkout of Canopy")
    return folder


class StepFailed(Exception):
    """A step of the story did not come true."""

    def __init__(self, number: int, step: Step, why: Exception) -> None:
        super().__init__(f"{type(why).__name__}: {why}" if not isinstance(why, _FAULTS) else str(why))
        self.number, self.step, self.why = number, step, why


class _Show:
    """One demo, from the first process to the last."""

    def __init__(
        self, folder: Folder, screen: Screen, once: bool, split: bool, examples: Path, guest: Guest | None
    ) -> None:
        self._folder, self._screen, self._once, self._examples, self._guest = folder, screen, once, examples, guest
        self._began = self._step_began = time.monotonic()
        settings = {"DRAIN_SECONDS": DRAIN_SECONDS, **(guest.settings if guest else {})}
        self.system = System(
            folder.path,
            split,
            (guest.name if guest else NODE,),
            settings=settings,
            kubeconfig=guest.kubeconfig if guest else None,
            say=self._tell,
        )
        self._story: Story

    async def run(self) -> int:
        """Tell, offer, wait; the exit code."""
        if self._folder.ended:
            self._screen.say(f"ended what a killed demo had left running: {', '.join(self._folder.ended)}")
        if self._guest is not None:
            self._screen.say(self._guest.plan())
        with _ctrl_c_cancels():
            code = await self._run()
        if self._guest is not None and self._guest.left:
            self._screen.say(self._guest.lament())
            return FAILED
        return code

    async def _run(self) -> int:
        told = False
        try:
            async with AsyncExitStack() as stack:
                stack.callback(self._folder.withdraw)
                await self._tell_story(stack)
                told = True
                if not self._once:
                    await self._stay()
                else:
                    self._screen.say(f"\nThe whole story took {time.monotonic() - self._began:.1f} s.")
        except StepFailed as failed:
            return self._failed(failed)
        except asyncio.CancelledError:
            self._screen.say("\nEverything has ended." if told else "\nInterrupted; everything has ended.")
            return 0 if told else INTERRUPTED
        return 0

    async def _tell_story(self, stack: AsyncExitStack) -> None:
        guest = self._guest
        namespace = guest.name if guest else NAMESPACE
        self._story = Story(self.system, stack, self._examples, self._tell, namespace)
        steps = STEPS if guest is None else (arrival(guest, stack), *STEPS)
        for number, step in enumerate(steps, 1 if guest is None else 0):
            self._step_began = time.monotonic()
            self._screen.begin(number, step.title)
            try:
                async with asyncio.timeout(step.seconds):
                    await step.act(self._story)
            except Exception as why:
                raise StepFailed(number, step, why) from why
            self._record()
            self._screen.done(time.monotonic() - self._step_began)

    def _tell(self, text: str) -> None:
        self._screen.tell(time.monotonic() - self._step_began, text)
        self._record()

    def _record(self) -> None:
        self._folder.record(self.system.pids())

    # --- while it is up -----------------------------------------------------------------------------------------------
    async def _stay(self) -> None:
        """Until cancelled. What ends by itself, or is killed, is started again."""
        self._publish()
        self._screen.offer(offer.lines(self.system, self._story, self._folder.path), self._endpoints())
        while True:
            await asyncio.sleep(MIND_SECONDS)
            if await self._mind():
                self._publish()

    async def _mind(self) -> bool:
        gone = [(n, p) for n, p in self.system.processes().items() if not p.running]
        gone_servers = [(n, s) for n, s in self.system.servers().items() if not s.running]
        for name, process in gone:
            self._screen.say(f"{name} has ended (its log: {process.log}); starting it again")
            process.spawn()
        for name, server in gone_servers:
            self._screen.say(f"{name} has ended (its log: {server.log}); starting it again")
            await server.start()
        return bool(gone or gone_servers)

    def _publish(self) -> None:
        self._record()
        self._folder.publish(self._endpoints(), self.system.pids())

    def _endpoints(self) -> dict[str, Any]:
        return offer.endpoints(self.system, self._story)

    # --- when it fails ------------------------------------------------------------------------------------------------
    def _failed(self, failed: StepFailed) -> int:
        names = [failed.why.process] if isinstance(failed.why, NotReady) else []
        logs = {} if names else {p.name: tail(p.log) for p in self._suspects(failed.step)}
        self._screen.failed(failed.number, failed.step.title, str(failed), list(logs.items()))
        self._screen.say(f"All logs are in {self._folder.path / 'logs'}.")
        return FAILED

    def _suspects(self, step: Step) -> list[Any]:
        found = []
        for unit in step.units:
            try:
                found.append(self.system.unit(unit))
            except KeyError:  # it was never started
                continue
        return list(dict.fromkeys(found))


@contextmanager
def _ctrl_c_cancels() -> Iterator[None]:
    """Ctrl-C, SIGTERM or a closed terminal ends in order; a second one at once (the kernel ends our children)."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals, heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), False

    def ended() -> None:
        nonlocal heard
        if heard or task is None:
            os._exit(INTERRUPTED)
        heard = True
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, ended)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
