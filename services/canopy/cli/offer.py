"""What a demo that is up offers: the content of endpoints.json, and the lines to try on the screen."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from canopy.cli.gateway import HOST, topic
from canopy.cli.story import Story
from canopy.cli.target import DEMO_FILE, TOKEN_VARIABLE, URL_VARIABLE
from canopy.contracts import catalogue as c
from canopy.testing.fleet import TRUST_DOMAIN
from canopy.testing.system import System


def endpoints(system: System, story: Story) -> dict[str, Any]:
    """Where everything is; `device` as namespace/name. The plain MQTT port is open since the demo's settings name it;
    `mqtt_tls` is how the device comes by its own certificate."""
    home = system.home()
    return {
        "mqtt_port": home.mqtt_port,
        "mqtt_tls": {"port": home.mqtt_tls_port, **{k: str(story.bundle / f"{k}.pem") for k in ("ca", "cert", "key")}},
        "node": story.node,
        "device": story.device,
        "api_url": system.api_url,
        "api_token": system.api_token,
        "kubeconfig": str(system.kubeconfig),
        "hub_url": system.hub.client_url,
        "leaf_url": home.leaf_url,
        "trust_domain": TRUST_DOMAIN,
        "mapper_identity": home.unit("mapper")["IDENTITY_DIR"],
        "admin_socket": str(home.identity / "admin.sock"),
        "light_port": story.light_port,
    }


def lines(system: System, story: Story, folder: Path) -> list[tuple[str, str]]:
    """(what it does, the command line)."""
    kubectl = f"kubectl --kubeconfig {_short(system.kubeconfig)}"
    canopy, device = _canopy(), {"namespace": story.namespace, "name": story.name}
    mqtt = f"-h {HOST} -p {system.node().mqtt_port}"
    update = topic(c.TWIN_UPDATE, **device)
    heard = update.removesuffix("/twin/update") + "/#"
    report = '{"event_id":"1","twin":{"note":{"actual":{"value":"hi"},"metadata":{"type":"string"}}}}'
    own = f"-h localhost -p {system.home().mqtt_tls_port} " + " ".join(
        f"--{option} {_short(story.bundle / file)}"
        for option, file in (("cafile", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
    )
    return [
        *_where(system, folder),
        ("the devices in Kubernetes, as they change", f"{kubectl} get devices -A -w"),
        ("what the light reports, in Kubernetes",
         f"{kubectl} get devicestatus {story.name} -n {story.namespace} -o yaml"),
        ("all that is said of the light at the edge", f"mosquitto_sub {mqtt} -v -t {shlex.quote(heard)}"),
        ("report something, as the device itself: by its own certificate, over TLS",
         f"mosquitto_pub {own} -q 1 -t {shlex.quote(update)} -m {shlex.quote(report)}"),
        ("who was let in, refused, joined, provisioned", f"{canopy} audit"),
        ("switch the light, and wait until it is so", f"{canopy} device set {story.device} switch=true --wait"),
        ("watch it", f"{canopy} device watch {story.device}"),
        ("switch it off by hand, as somebody at the light would (a wish that stands switches it on again)",
         f"{_short(Path(sys.executable))} -c 'import asyncio; from canopy.testing.light import flip; "
         f'asyncio.run(flip("{HOST}", {story.light_port}, False))\''),
        (f"the fleet API's documentation (token: {system.api_token})", f"{system.api_url}/docs"),
        ("addresses, pids and logs of everything", _short(folder / "endpoints.json")),
    ]  # fmt: skip


def _where(system: System, folder: Path) -> list[tuple[str, str]]:
    """The command line finds `.demo` here and in folders below; another --dir must be said."""
    if folder == (Path.cwd() / DEMO_FILE).parent:
        return []
    export = f"export {URL_VARIABLE}={system.api_url} {TOKEN_VARIABLE}={system.api_token}"
    return [("where the fleet API is", export)]


def _canopy() -> str:
    """How the user can call us."""
    return "canopy" if shutil.which("canopy") else _short(Path(sys.argv[0]))


def _short(path: Path) -> str:
    """Relative to the working folder where it lies below."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
