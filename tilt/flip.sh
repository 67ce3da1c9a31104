#!/usr/bin/env bash
# Flips the light of the overlay dev by hand, as somebody at its switch would.
set -euo pipefail
kubectl -n canopy-edge exec deployment/light -- python3 -c '
import asyncio
from canopy.testing.light import flip, read

async def main():
    on = not (await read("127.0.0.1", 5020)).on
    await flip("127.0.0.1", 5020, on)
    print("the light is", "on" if on else "off")

asyncio.run(main())'
