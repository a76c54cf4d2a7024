"""What a user may say that must not have happened: `scripts/run --fail-on`."""

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import Refused
from ..reporting import trouble
from ..running.session import Outcome
from . import guest_log
from .checks import check

KINDS = {
    "faults": "an access of the GPU that did not translate, or that no memory answered",
    "ring-errors": "a packet that halted its ring",
    "unmet-waits": "a Wait that no earlier fence had satisfied",
    "misuse": "a write to a read-only register, ones in reserved bits, another width than the"
              " register's, an access that is misaligned",
    "undeclared": "an access to a word of BAR0 that the model does not have",
    "left-running": "a ring that is started, an L1 register that is valid, or bus mastering that"
                    " is on, when the script has ended and no driver has the GPU",
    "drm-errors": f"a line with {guest_log.DRM_ERROR} in the guest's kernel log",
}
"""By their names on the command line."""
ALL = "all"


def parse(texts: Sequence[str]) -> list[str]:
    """The kinds that were asked for, each once."""
    names = [name for text in texts for name in text.split(",")]
    for name in names:
        if name not in {*KINDS, ALL}:
            known = ", ".join([*KINDS, ALL])
            raise Refused(f"--fail-on {name or repr(name)}: expected {known}, or several with commas")
    return [kind for kind in KINDS if kind in names or ALL in names]


def checks(outcome: Outcome, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """A check for each; it fails also where the model could not be asked."""
    return [one(kind, FOUND[kind](outcome), outcome.model) for kind in kinds]


def one(kind: str, found: list[str], model: dict[str, Any]) -> dict[str, Any]:
    """The check of a kind of which this was found."""
    name = f"no {kind.replace('-', ' ')}"
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return check(name, False, found[0] + more)
    if "device" not in model:
        return check(name, False, "unknown: the guest ended before the model was asked")
    if model["unanswered"]:
        return check(name, False, f"unknown: {model['unanswered'][0]}")
    return check(name, True, "none")


def texts(history: str) -> Callable[[Outcome], list[str]]:
    """The sentences of one of the model's histories."""
    return lambda outcome: [record["text"] for record in outcome.model.get(history, [])]


def misuses(outcome: Outcome) -> list[str]:
    """Misused registers, and accesses that no register could take."""
    out = [
        f"{row['register']} ({row['offset']:#x}) {trouble.MISUSES.get(row['kind'], row['kind'])},"
        f" {row['count']} times"
        for row in outcome.model.get("misuse", [])
    ]
    refused = outcome.model.get("device", {}).get("refused_accesses", 0)
    return [*out, *([f"{refused} accesses that are misaligned"] if refused else [])]


def undeclared(outcome: Outcome) -> list[str]:
    """Blocks with words that the model does not have."""
    return [
        f"{block['block']}: {block['words']} words, {block['reads']} reads,"
        f" {block['writes']} writes"
        for block in outcome.model.get("undeclared", [])
    ]


def left_running(outcome: Outcome) -> list[str]:
    """What runs without a driver; that bus mastering is off is none of it."""
    return [
        line for state in outcome.model.get("left_running", [])
        for line in trouble.running_lines({**state, "bus_master": state["bus_master"] or None})
    ]


FOUND: dict[str, Callable[[Outcome], list[str]]] = {
    "faults": texts("faults"),
    "ring-errors": texts("ring_errors"),
    "unmet-waits": texts("unmet_waits"),
    "misuse": misuses,
    "undeclared": undeclared,
    "left-running": left_running,
    "drm-errors": lambda outcome: outcome.drm_errors,
}
