"""First process of a unit's container in the overlay dev: runs the unit, starts it anew at SIGHUP, else ends with it.

Tilt sends the SIGHUP after it has put changed files in place, to the process whose number stands in `PID_FILE`. The
container itself is not restarted: the kubelet would wait longer each time.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

COMMAND = [sys.executable, "-m", "canopy.launch"]
PID_FILE = Path(os.environ.get("RESTART_PID_FILE", "/tmp/restart.pid"))  # noqa: S108 - of the pod


def main(command: list[str]) -> int:
    """The exit code of the command that ended by itself, or when we were told to end."""
    again, child = threading.Event(), subprocess.Popen(command)

    def on_signal(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            again.set()
        child.terminate()

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    PID_FILE.write_text(str(os.getpid()))
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
