"""What the door to NATS does not load."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import canopy.bus
assert "nats" in sys.modules and "aiohttp" not in sys.modules, "loaded by the door"
import aiohttp
print("aiohttp", aiohttp.__name__)
"""


@pytest.mark.server
def test_the_door_loads_no_websockets_and_leaves_them_to_who_wants_them() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("aiohttp aiohttp\n", "")
