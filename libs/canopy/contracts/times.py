"""Times as Kubernetes and KubeEdge write them; ours are ms since 1970."""

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """`2026-01-31T12:00:00Z`, whole seconds; nothing for never (0), and for what no calendar holds."""
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if ms > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def micro_time(ms: int) -> str:
    """Kubernetes' MicroTime, as Leases have it."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def millis(text: str | None) -> int:
    """A time of Kubernetes in ms; 0 for none, and for what is none."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
    except ValueError:
        return 0
