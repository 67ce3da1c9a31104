"""Every benchmark with its settings of the README's table, one after the other, and the table.

    .venv/bin/python bench/all.py [--runs 3] [--only twin,latency] [--json]     (make bench ARGS=...)

Needs a quiet machine, Linux and Debian's mosquitto-clients; takes about six minutes a run. Prints the
README's rows (`--from FILE`: of what `--json` printed, without running anything).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import say

HERE = Path(__file__).parent
COMMANDS = {
    "twin": "twin.py",
    "twin-100": "twin.py --devices 100",
    "latency": "latency.py",
    "offline": "offline.py",
    "many": "many.py",
    "writes": "writes.py",
    "states": "states.py",
    "admissions": "admissions.py",
}

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the README: `figures` are names within a benchmark, `form` shows them, `kubeedge` stands beside."""

    what: str
    benchmark: str
    form: str
    figures: tuple[str, ...]
    kubeedge: str = "-"

    def text(self, found: Found) -> str:
        """In Markdown."""
        figures = found[self.benchmark]["figures"]
        values = self.form.format(*(shown(figures[name]) for name in self.figures))
        return f"| {self.what} | {values} | {self.kubeedge} | `{COMMANDS[self.benchmark]}` |"


ROWS = (
    Row("updates answered a second, one device", "twin", "{}", ("answered_per_second",), "51 (249, caps lifted)"),
    Row("the same, a hundred devices", "twin-100", "{}", ("answered_per_second",)),
    Row("lost, of 20,000 (KubeEdge: of 3,000)", "twin", "{}", ("lost",), "393"),
    Row(
        "update to answer at 1,000 a second, one device",
        "twin",
        "p50 {} ms, p99 {} ms",
        ("result_p50_ms", "result_p99_ms"),
    ),
    Row(
        "the same, a hundred devices",
        "twin-100",
        "p50 {} ms, p99 {} ms",
        ("result_p50_ms", "result_p99_ms"),
    ),
    Row("the cloud shows the last value after", "twin", "{} s", ("status_shows_last_after_s",), "not after 80 s"),
    Row(
        "edge memory, its nats-server included: idle, after that load",
        "twin",
        "{} MB, {} MB",
        ("edge_idle_rss_mb", "edge_rss_mb"),
        "113 MB, 135 MB with mosquitto",
    ),
    Row("the same, a hundred devices", "twin-100", "{} MB, {} MB", ("edge_idle_rss_mb", "edge_rss_mb")),
    Row(
        "device to Kubernetes API, idle", "latency", "p50 {} ms, p99 {} ms", ("up_p50_ms", "up_p99_ms"), "about 170 ms"
    ),
    Row("Kubernetes API to MQTT device, idle", "latency", "p50 {} ms, p99 {} ms", ("down_p50_ms", "down_p99_ms")),
    Row("Kubernetes API to a Modbus coil, idle", "latency", "p50 {} ms, p99 {} ms", ("coil_p50_ms", "coil_p99_ms")),
    Row(
        "100 reports while the cloud was down: all final values after",
        "offline",
        "{} s (one device), {} s (a hundred)",
        ("cloud_one_device_s", "cloud_devices_s"),
        "never",
    ),
    Row(
        "the same, the cloud killed (its Lease has to run out)",
        "offline",
        "{} s (one device), {} s (a hundred)",
        ("killed_one_device_s", "killed_devices_s"),
    ),
    Row(
        "100 reports while the link was cut: the same",
        "offline",
        "{} s (one device), {} s (a hundred)",
        ("link_one_device_s", "link_devices_s"),
    ),
    Row(
        "100 reports while the hub was down: the same",
        "offline",
        "{} s (one device), {} s (a hundred)",
        ("hub_one_device_s", "hub_devices_s"),
    ),
    Row("2,000 Devices that waited for the link: at the edge after", "many", "{} s", ("waiting_s",)),
    Row("2,000 Devices created live: at the edge after the last", "many", "{} s", ("live_s",)),
    Row(
        "Kubernetes writes a device and second, at 100 reports a second each: 1, 20 devices",
        "writes",
        "{}, {}",
        ("one_status_writes_per_device_per_second", "all_status_writes_per_device_per_second"),
    ),
    Row(
        "device states a second through one CloudHub, with its hub, 4 leaves, players",
        "states",
        "{}",
        ("states_per_second",),
    ),
    Row("the same, a CPU second of CloudHub", "states", "{}", ("states_per_cpu_second",)),
    Row(
        "nodes let in a second (mTLS, callout, audit), 1,500 at once, 1,000 there before",
        "admissions",
        "{}",
        ("admissions_per_second",),
    ),
    Row(
        "an ask of a node that was there before, meanwhile",
        "admissions",
        "p50 {} ms, p99 {} ms",
        ("a_node_there_already_in_the_storm_p50_ms", "a_node_there_already_in_the_storm_p99_ms"),
    ),
)


def shown(figure: Mapping[str, float]) -> str:
    """The median, and the range where runs differ."""
    text = _number(figure["median"])
    least, most = _number(figure["min"]), _number(figure["max"])
    return text if least == most else f"{text} ({least} to {most})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def table(found: Found) -> str:
    """The README's table; rows whose benchmark was not run are left out."""
    head = "| | Canopy | KubeEdge | `bench/` |\n|---|---|---|---|"
    return "\n".join([head, *(row.text(found) for row in ROWS if row.benchmark in found)])


async def run(name: str, runs: int) -> Found:
    """One benchmark as a process of its own. Raises RuntimeError if it fails."""
    script, *arguments = COMMANDS[name].split()
    command = (sys.executable, str(HERE / script), *arguments, "--runs", str(runs), "--json")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench/{COMMANDS[name]} ended with {process.returncode}")
    found: Found = json.loads(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="runs of each; medians are told, with least and most")
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"some of {', '.join(COMMANDS)}, with commas")
    parser.add_argument("--json", action="store_true", help="print JSON: {benchmark: what it printed}")
    parser.add_argument("--from", dest="file", type=Path, help="take what `--json` printed to this file; run nothing")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in COMMANDS]:
        parser.error(f"--only {','.join(unknown)}: there are {', '.join(COMMANDS)}")
    try:
        found = json.loads(arguments.file.read_text()) if arguments.file else asyncio.run(_all(names, arguments.runs))
    except RuntimeError as e:
        parser.exit(1, f"{e}\n")
    print(json.dumps(found, indent=1) if arguments.json else table(found))


async def _all(names: list[str], runs: int) -> Found:
    found = {}
    for name in names:
        say(f"== bench/{COMMANDS[name]} ==")
        found[name] = await run(name, runs)
    return found


if __name__ == "__main__":
    main()
