"""The settings door: where values come from, and what is said about a wrong one."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, Field, SecretStr

from canopy.runtime.settings import SettingsError, Shared, UnitSettings, host_and_port, load, variables


class Limits(BaseModel):
    batch_messages: int = Field(500, gt=0)
    token: SecretStr = SecretStr("")


class Lamp(UnitSettings):
    unit: ClassVar[str] = "lamp-twin"
    window_ms: int = Field(5, ge=0, le=1000, description="Milliseconds that a commit waits for company.")
    secret: SecretStr = Field(SecretStr("none"), description="What the lamp wants to hear.")
    limits: Limits = Field(Limits(), description="Bounds, in messages.")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("CANOPY_")]:
        monkeypatch.delenv(name)


def fault(cls: type[UnitSettings], **overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(cls, overrides)
    return str(caught.value)


def test_without_anything_there_are_defaults() -> None:
    assert load(Lamp).window_ms == 5
    assert load(Shared).nats_url == "nats://127.0.0.1:4222"


def test_an_override_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "env"
    file.write_text("CANOPY_LAMP_TWIN_WINDOW_MS=7\nCANOPY_OTHER_UNIT_X=1\nCANOPY_NODE_NAME=edge-7\nPATH=/\n")
    monkeypatch.setenv("CANOPY_ENV_FILE", str(file))
    assert (load(Lamp).window_ms, load(Shared).node_name) == (7, "edge-7")
    monkeypatch.setenv("CANOPY_LAMP_TWIN_WINDOW_MS", "8")
    assert load(Lamp).window_ms == 8
    assert load(Lamp, {"window_ms": 9}).window_ms == 9


def test_a_named_file_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_ENV_FILE", "/nowhere")
    assert "CANOPY_ENV_FILE is '/nowhere'" in fault(Lamp)


def test_nested_settings_have_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_LAMP_TWIN_LIMITS__BATCH_MESSAGES", "9")
    assert load(Lamp).limits.batch_messages == 9


def test_a_fault_names_the_setting_its_variable_the_value_and_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_LAMP_TWIN_WINDOW_MS", "soon")
    said = fault(Lamp)
    assert said.startswith("window_ms (CANOPY_LAMP_TWIN_WINDOW_MS) is 'soon': ")
    assert said.endswith("Milliseconds that a commit waits for company.")


def test_a_nested_fault_names_the_nested_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_LAMP_TWIN_LIMITS__BATCH_MESSAGES", "0")
    assert fault(Lamp).startswith("limits.batch_messages (CANOPY_LAMP_TWIN_LIMITS__BATCH_MESSAGES) is '0': ")


def test_a_nested_setting_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_LAMP_TWIN_LIMITS", "{geheim")
    said = fault(Lamp)
    assert said.startswith("limits (CANOPY_LAMP_TWIN_LIMITS) is not readable: it must be JSON")
    assert "geheim" not in said


def test_all_faults_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_NODE_NAME", "Edge_1")
    monkeypatch.setenv("CANOPY_LOG_LEVEL", "LOUD")
    assert [line.split(" ")[0] for line in fault(Shared).splitlines()] == ["node_name", "log_level"]


@pytest.mark.parametrize(
    ("cls", "overrides"),
    [
        (Lamp, {"secret": ["geheim"]}),
        (Lamp, {"limits": {"token": ["geheim"]}}),
        (Lamp, {"limits": {"token": "geheim", "batch_messages": 0}}),
        (Lamp, {"limits": ["geheim"]}),
        (Shared, {"nats_url": "nats://user:geheim@hub:4222"}),
        (Shared, {"nats_url": "nats://hub-1:4222,nats://user:geheim@hub-2:4222"}),
        (Lamp, {"secret": "geheim", "window_ms": -1}),
    ],
)
def test_no_fault_shows_a_secret(cls: type[UnitSettings], overrides: dict[str, object]) -> None:
    assert "geheim" not in fault(cls, **overrides)


def test_a_secret_of_the_wrong_kind_is_not_shown_either() -> None:
    said = fault(Lamp, secret=31337)
    assert said.startswith("secret (CANOPY_LAMP_TWIN_SECRET) is (hidden): ")
    assert "31337" not in said


def test_settings_do_not_show_their_secrets() -> None:
    assert "geheim" not in repr(load(Lamp, {"secret": "geheim"}))


def test_a_mistyped_variable_of_a_unit_is_a_fault_and_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_LAMP_TWIN_WINDOW", "7")
    said = fault(Lamp)
    assert "CANOPY_LAMP_TWIN_WINDOW: no such setting of lamp-twin" in said
    assert "CANOPY_LAMP_TWIN_WINDOW_MS" in said


def test_a_setting_of_a_former_release_that_is_still_set_is_a_fault_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANOPY_NATS_PASSWORD", "geheim")
    (said,) = fault(Shared).splitlines()
    assert said.startswith("CANOPY_NATS_PASSWORD is no setting any more: ") and "CANOPY_IDENTITY_DIR" in said
    assert "geheim" not in said and load(Lamp)
    monkeypatch.delenv("CANOPY_NATS_PASSWORD")
    (tmp_path / "env").write_text("CANOPY_NATS_USER=edge\n")
    monkeypatch.setenv("CANOPY_ENV_FILE", str(tmp_path / "env"))
    assert "CANOPY_NATS_USER is no setting any more" in fault(Shared)


def test_a_mistyped_override_is_a_fault() -> None:
    assert "widow_ms: no such setting" in fault(Lamp, widow_ms=1)


def test_settings_do_not_change_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Lamp).window_ms = 7


@pytest.mark.parametrize("name", ["edge", "edge-1", "a", "1", "edge-1.site-2.example", "a" * 253])
def test_a_kubernetes_name_is_a_node_name(name: str) -> None:
    assert load(Shared, {"node_name": name}).node_name == name


@pytest.mark.parametrize(
    "name", ["", "Edge", "edge_1", "-edge", "edge-", "a..b", ".a", "a.", "ä", "a b", "a\n", "a" * 254]
)
def test_anything_else_is_refused(name: str) -> None:
    assert "must be a Kubernetes name" in fault(Shared, node_name=name)


@pytest.mark.parametrize(
    "url", ["nats://hub:4222", "tls://hub", "nats://10.0.0.1:4222", "nats://[::1]:4222", "nats://a:1,nats://b:2"]
)
def test_a_nats_address_is_taken(url: str) -> None:
    assert load(Shared, {"nats_url": url}).nats_url == url


@pytest.mark.parametrize(
    "url", ["hub:4222", "http://hub", "nats://", "nats://a:b@hub", "nats://hub:4222/x", "nats://a:1,"]
)
def test_another_address_is_refused(url: str) -> None:
    assert "nats://127.0.0.1:4222" in fault(Shared, nats_url=url)


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "10.0.0.7:1", "[::]:1", "edge.example:1"])
def test_listening_beyond_loopback_needs_the_word_for_it(listen: str) -> None:
    assert "CANOPY_INSECURE_LISTEN=true" in fault(Shared, health_listen=listen)
    assert load(Shared, {"health_listen": listen, "insecure_listen": True}).health_listen == listen


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", ":1"])
def test_an_address_without_host_and_port_is_refused(listen: str) -> None:
    assert "host:port" in fault(Shared, health_listen=listen)


@pytest.mark.parametrize(
    ("listen", "cut"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("localhost:1", ("localhost", 1))]
)
def test_an_address_is_cut_into_host_and_port(listen: str, cut: tuple[str, int]) -> None:
    assert host_and_port(listen) == cut


@pytest.mark.parametrize(("variable", "default", "prose"), variables(Shared))
def test_every_shared_setting_has_prose_and_is_shown_without_secrets(variable: str, default: str, prose: str) -> None:
    assert variable.startswith("CANOPY_")
    assert prose.endswith(".")
    assert ("PASSWORD" in variable) == (default == "(hidden)")
