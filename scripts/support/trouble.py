"""What went wrong in a run, for a person: by the guest's kernel, its console, and the model."""

from typing import Any

from .render import heading

HISTORIES = {
    "faults": "faults (accesses of the GPU that failed)",
    "ring_errors": "ring errors (each halted its ring)",
    "unmet_waits": "waits that no earlier fence satisfied",
}
"""What the model remembers, by its name in the model's answer and the report."""
MOST_RECORDS = 10
MOST_REPORTS = 3
MOST_REPORT_LINES = 40
MOST_OUTPUT_LINES = 60


def script(ran: dict[str, Any] | None) -> list[str]:
    """What a user's script printed."""
    if not ran or not ran["output"]:
        return []
    return [*heading(f"{ran['name']} printed"), *last(ran["output"], MOST_OUTPUT_LINES)]


def lines(report: dict[str, Any]) -> list[str]:
    """All that a run has of it; nothing where nothing went wrong."""
    out = []
    for finding in report["kernel_log"][:MOST_REPORTS]:
        out += heading(f"the guest's kernel: {finding['kind']}")
        out += first(finding["lines"], MOST_REPORT_LINES, "the console log")
    left = len(report["kernel_log"]) - MOST_REPORTS
    if left > 0:
        out += ["", f"  and {left} more reports of the guest's kernel, in report.json"]
    for name, title in HISTORIES.items():
        if report[name]:
            out += heading(title)
            out += first([record["text"] for record in report[name]], MOST_RECORDS, "report.json")
    if report["last_lines"]:
        out += heading("the last lines of the guest's console")
        out += [f"  {line}" for line in report["last_lines"]]
    return out


def first(texts: list[str], most: int, rest_in: str) -> list[str]:
    """The first of some lines, and where the others are."""
    left = len(texts) - most
    more = [f"  ({left} more in {rest_in})"] if left > 0 else []
    return [*(f"  {text}" for text in texts[:most]), *more]


def last(texts: list[str], most: int) -> list[str]:
    """The last of some lines."""
    left = len(texts) - most
    before = [f"  ({left} lines before are in the console log)"] if left > 0 else []
    return [*before, *(f"  {text}" for text in texts[-most:])]
