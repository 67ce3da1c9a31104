"""Label and field selectors."""

import pytest

from canopy.kubeserve import selectors
from canopy.kubeserve.status import ApiError

BODY = {"metadata": {"name": "a", "labels": {"app": "light", "canopy.dev/site": "x"}}, "spec": {"unschedulable": True}}
KNOWN = ("metadata.name", "spec.unschedulable", "spec.nodeName")


def matches(labels: str = "", fields: str = "") -> bool:
    selector = selectors.parse(labels, fields, KNOWN)
    return selector.matches(BODY["metadata"]["labels"], selectors.reader(BODY))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "app=light",
        "app==light",
        "app = light",
        "app!=dark",
        "none!=x",
        "app",
        "!none",
        "app in (dark, light)",
        "app notin (dark)",
        "none notin (x)",
        "canopy.dev/site=x,app in (light,x),!none",
        " app=light , canopy.dev/site ",
    ],
)
def test_a_label_selector_chooses(text: str) -> None:
    assert matches(labels=text)


@pytest.mark.parametrize("text", ["app=dark", "app!=light", "none", "!app", "app in (x)", "none=", "app notin (light)"])
def test_a_label_selector_leaves_out(text: str) -> None:
    assert not matches(labels=text)


@pytest.mark.parametrize("text", ["=x", "a b", "a in x", "a in (x", "a,,b", "a=b=c", "a in ((x))"])
def test_a_label_selector_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="selector"):
        matches(labels=text)


def test_a_field_selector_compares_text() -> None:
    assert matches(fields="metadata.name=a,spec.unschedulable=true,spec.nodeName=")
    assert matches(fields="metadata.name!=b")
    assert not matches(fields="metadata.name==b")


@pytest.mark.parametrize("text", ["spec.other=x", "metadata.name", "=", "metadata.name=a,"])
def test_an_unknown_field_is_refused_in_kubernetes_words(text: str) -> None:
    with pytest.raises(ApiError, match="field label not supported: "):
        matches(fields=text)
