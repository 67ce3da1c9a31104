"""Images run as a deployment runs them: read-only, no rights, no network but their own."""

import json
import re
import time
from collections.abc import Callable

import pytest
from image_box import MADE_HERE, ROOT, TABLE, UNITS, docker, inside_exec, logs, name, running

pytestmark = pytest.mark.images
ASK = ("python3", "-m", "canopy.launch")
SECONDS = 30.0
STOP_SECONDS = 10.0
ALONE = ("--network", "none")
DEPLOYED = ("-e", "CANOPY_INSECURE_LISTEN=true", "-e", "CANOPY_IDENTITY_DIR=/run/canopy")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(0.1)


@pytest.mark.parametrize("image", [image for image in UNITS if image != "spire_integration"])
def test_a_unit_waits_for_nats_is_alive_and_not_ready_and_ends_when_told_to(image: str) -> None:
    with running(image, *ALONE, *DEPLOYED) as container:
        until(lambda: inside_exec(container, *ASK, "--health")[0] == 0, "healthy")
        code, said = inside_exec(container, *ASK, "--ready")
        assert code == 1 and "nats://127.0.0.1:4222" in said
        assert [c["unit"] for c in json.loads(said)["checks"] if not c["ok"]] == TABLE[image]["units"].split()
        began = time.monotonic()
        docker("stop", "--time", "20", container)
        assert time.monotonic() - began < STOP_SECONDS
        assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"


def test_without_its_keys_spire_integration_ends_at_once_and_says_how_to_make_them() -> None:
    with running("spire_integration", *ALONE, *DEPLOYED) as container:
        assert docker("wait", container) == "2"
        assert "CANOPY_SPIRE_INTEGRATION_KEYS_DIR" in logs(container) and "canopy.identity.hubkeys" in logs(container)


def test_the_helper_waits_for_an_agent_and_says_so() -> None:
    with running(
        "identity", *ALONE, arguments=("--socket", "/run/spire/agent/api.sock", "--dir", "/tmp/id")
    ) as container:
        until(lambda: "waiting for an identity" in logs(container), "says that it waits")


@pytest.mark.skipif("spire-server" not in MADE_HERE, reason="tests/spire/build.sh has not built it here")
def test_the_programs_of_spire_are_those_of_our_pins() -> None:
    pins = (ROOT / "tests/spire/go.mod").read_text()
    for image in ("spire-server", "spire-agent"):
        with running(image, *ALONE, arguments=("--version",)) as container:
            assert docker("wait", container) == "0"
            version = logs(container).strip().partition("-")[0]
        assert re.search(rf"github.com/spiffe/spire v{re.escape(version)}\b", pins) and version.count(".") == 2, version


def test_beyond_loopback_a_unit_listens_only_where_the_deployment_says_so() -> None:
    with running("edgehub", *ALONE) as container:
        assert docker("wait", container) == "2"
        assert "CANOPY_INSECURE_LISTEN=true" in logs(container)


def test_some_of_the_folded_units_can_be_chosen() -> None:
    with running("edge", *ALONE, *DEPLOYED, "-e", "CANOPY_UNITS=edgehub devicetwin") as container:
        until(lambda: inside_exec(container, *ASK, "--health")[0] == 0, "healthy")
        checks = json.loads(inside_exec(container, *ASK, "--ready")[1])["checks"]
        assert {c["unit"] for c in checks} == {"edgehub", "devicetwin"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("version",), "canopy 0.1.0"), (("device", "--help"), "canopy device list"), (("nats", "hub"), "NODES-15")],
)
def test_the_command_line_works_in_its_image(arguments: tuple[str, ...], said: str) -> None:
    assert said in docker("run", "--rm", "--read-only", *ALONE, name("cli"), *arguments)


def test_a_unit_that_an_image_does_not_hold_is_said_with_the_image_that_does() -> None:
    with running("cli", *ALONE, arguments=("run", "edgehub")) as container:
        assert docker("wait", container) == "2"
        assert "its image is canopy/edgehub" in logs(container)


def test_the_light_listens_and_is_healthy() -> None:
    with running("light", *ALONE) as container:
        until(lambda: '"ready": true' in logs(container), "ready")
        connect = "import socket; socket.create_connection(('127.0.0.1', 5020), 3)"
        assert inside_exec(container, "python3", "-c", connect) == (0, "")


def test_nats_runs_a_configuration_from_a_folder_that_it_cannot_write() -> None:
    config = 'listen: "127.0.0.1:4222"\nhttp: "127.0.0.1:8222"\njetstream { store_dir: "/var/lib/canopy" }'
    script = "import sys, os; open('/tmp/n', 'w').write(sys.argv[1]); os.execvp('nats-server', ['n', '-c', '/tmp/n'])"
    options = (*ALONE, "--entrypoint", "python3")
    with running("nats", *options, arguments=("-c", script, config)) as container:
        check = json.loads(docker("inspect", "-f", "{{json .Config.Healthcheck.Test}}", container))[1:]
        until(lambda: inside_exec(container, *check)[0] == 0, "healthy")


@pytest.mark.skipif(not docker("image", "ls", "--quiet", name("redis"), check=False), reason="the official one is used")
def test_the_redis_that_stands_for_the_official_one_keeps_what_it_is_told() -> None:
    with running("redis", *ALONE) as container:
        until(lambda: inside_exec(container, "redis-cli", "ping") == (0, "PONG\n"), "answers")
        assert inside_exec(container, "redis-cli", "set", "a", "1") == (0, "OK\n")
        assert inside_exec(container, "redis-cli", "config", "get", "appendonly")[1].split() == ["appendonly", "yes"]
