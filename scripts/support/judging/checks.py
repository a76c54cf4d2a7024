"""The form of a check that a run makes, as the guest's own have it."""

from typing import Any


def check(name: str, ok: bool, detail: str) -> dict[str, Any]:
    """A check that was made."""
    return {"name": name, "ok": ok, "detail": detail}
