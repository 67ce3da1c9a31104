"""One job of a device, done with its driver: the only place where a driver's methods are called.

Whatever a driver raises becomes an outcome, so that nothing a driver does can hurt another device.
"""

import asyncio
import logging
from collections.abc import Callable

from canopy.mapper.jobs import Answered, Job, Misconfigured, Outcome, Unreachable
from canopy.mapper.sdk import BadConfig, BadValue, DeviceUnreachable, DeviceView, Driver, PropertyFailed, PropertyView

log = logging.getLogger(__name__)


async def do(
    driver: Driver,
    device: DeviceView,
    opened: bool,
    job: Job,
    limit_seconds: float,
    bug: Callable[[Exception], None] = lambda error: None,
) -> Outcome:
    """Open, write, read as the job says; closes the device again unless it answered. Bounded by `limit_seconds`.

    `bug` hears what a driver raised that no driver should; to the device it is as if it did not answer.
    """
    holds = opened
    try:
        async with asyncio.timeout(limit_seconds):
            if job.open:
                await driver.open(device)
                holds = True
            refused, failed = await _write(driver, device, job)
            return Answered(await driver.read(device, job.read) if job.read else {}, refused, failed)
    except asyncio.CancelledError:
        if holds and not opened:
            await close(driver, device, limit_seconds)
        raise
    except Exception as error:
        if holds:
            await close(driver, device, limit_seconds)
        return _outcome(driver, error, limit_seconds, bug)


async def close(driver: Driver, device: DeviceView, limit_seconds: float) -> None:
    """Close; what goes wrong with it is only logged."""
    try:
        async with asyncio.timeout(limit_seconds):
            await driver.close(device)
    except Exception:
        log.warning("the driver %s failed to close %s", driver.protocol, device, exc_info=True)


def line(driver: Driver, device: DeviceView) -> str:
    """The device's line; one of its own where the driver cannot say (`open` will say why)."""
    try:
        return driver.line(device)
    except Exception:
        return str(device)


async def _write(driver: Driver, device: DeviceView, job: Job) -> tuple[dict[str, str], dict[str, str]]:
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for prop, value in job.write:
        await _write_one(driver, device, prop, value, refused, failed)
    return refused, failed


async def _write_one(
    driver: Driver,
    device: DeviceView,
    prop: PropertyView,
    value: str,
    refused: dict[str, str],
    failed: dict[str, str],
) -> None:
    try:
        await driver.write(device, prop, value)
    except BadValue as e:
        refused[prop.name] = str(e)
    except PropertyFailed as e:
        failed[prop.name] = str(e)


def _outcome(driver: Driver, error: Exception, limit_seconds: float, bug: Callable[[Exception], None]) -> Outcome:
    if isinstance(error, DeviceUnreachable):
        return Unreachable(str(error) or "it does not answer")
    if isinstance(error, BadConfig):
        return Misconfigured(str(error))
    if isinstance(error, TimeoutError):
        return Unreachable(f"no answer within {limit_seconds:g} s")
    bug(error)
    return Unreachable(f"the driver {driver.protocol} failed: {error!r}")
