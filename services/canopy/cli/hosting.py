"""How the demo comes into somebody's cluster: its kubeconfig, the first look, and the step before the story's first.

`show` calls it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from canopy.cli.failure import UsageFailure
from canopy.cli.folder import Folder
from canopy.cli.guest import Guest
from canopy.cli.story import Step, Story
from canopy.kube.client import connect
from canopy.kube.kubeconfig import NoCluster, read

ARRIVE_SECONDS = 40.0


@asynccontextmanager
async def hosted(
    folder: Folder, kubeconfig: Path | None, context: str, say: Callable[[str], None]
) -> AsyncIterator[Guest | None]:
    """Who the demo is in the cluster of a kubeconfig; None without one. Raises Failure where it cannot be there."""
    if kubeconfig is None:
        yield None
        return
    try:
        pinned = read(kubeconfig, context)
        path = folder.pin(pinned)
        kube = await connect(path)
    except NoCluster as error:
        folder.withdraw()
        raise UsageFailure(f"--kubeconfig: {error}") from None
    try:
        url = pinned["clusters"][0]["cluster"]["server"]
        guest = Guest(kube, url, path, f"--kubeconfig {kubeconfig} --context {pinned['current-context']}", say)
        await guest.look()
        yield guest
    finally:
        await kube.close()
        folder.withdraw()


def arrival(guest: Guest, stack: AsyncExitStack) -> Step:
    """Before the story: the guest makes what it needs, and removes it when `stack` ends."""

    async def arrive(_: Story) -> None:
        await stack.enter_async_context(guest)

    return Step("The cluster gets what the story needs", ARRIVE_SECONDS, arrive, ())
