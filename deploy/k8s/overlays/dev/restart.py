"""Process 1 of a unit's container in the overlay dev: runs the unit, starts it anew at SIGHUP, ends with it otherwise.

Tilt sends the SIGHUP after it has put changed files in place. The container itself is not restarted: the kubelet would
wait longer each time.
"""

import signal
import subprocess
import sys
import threading
from types import FrameType

COMMAND = [sys.executable, "-m", "canopy.launch"]


def main(command: list[str]) -> int:
    """The exit code of the command that ended by itself, or when we were told to end."""
    again, child = threading.Event(), subprocess.Popen(command)

    def on_signal(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            again.set()
        child.terminate()

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    while True:
        code = child.wait()
        if not again.is_set():
            return code
        again.clear()
        sys.stdout.write("restarting\n")
        sys.stdout.flush()
        child = subprocess.Popen(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or COMMAND))
