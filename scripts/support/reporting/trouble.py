"""What went wrong in a run, for a person: by the guest's kernel, its console, and the model."""

from typing import Any

from . import render
from .render import heading

HISTORIES = {
    "faults": "faults (accesses of the GPU that failed)",
    "ring_errors": "ring errors (each halted its ring)",
    "unmet_waits": "waits that no earlier fence satisfied",
}
"""What the model remembers, by its name in the model's answer and the report."""
OF_REGISTERS = ("undeclared", "most_read", "most_written", "misuse")
"""What the model counted of the driver's accesses, likewise."""
MISUSES = {
    "read_only": "written, but read-only: the write is lost",
    "reserved": "ones written to reserved bits",
    "width": "accessed in another width than its own",
}
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
    if report["drm_errors"]:
        out += heading("DRM's errors in the guest's kernel log")
        out += first(report["drm_errors"], MOST_RECORDS, "report.json")
    if report["misuse"]:
        out += heading("registers that were misused")
        rows = sorted(report["misuse"], key=lambda row: -row["count"])
        out += first(render.table(list(map(misuse_row, rows))), MOST_RECORDS + 1, "report.json")
    if report["left_running"]:
        out += heading("left running: no driver has the GPU any more")
        out += [f"  {line}" for state in report["left_running"] for line in running_lines(state)]
    if report["last_lines"]:
        out += heading("the last lines of the guest's console")
        out += [f"  {line}" for line in report["last_lines"]]
    return out


def misuse_row(row: dict[str, Any]) -> dict[str, Any]:
    """A misused register as a row of a table."""
    return {
        **gpu_of(row), "register": row["register"], "offset": f"{row['offset']:#x}",
        "times": row["count"], "what was done": MISUSES.get(row["kind"], row["kind"]),
    }


def gpu_of(record: dict[str, Any]) -> dict[str, Any]:
    """Which GPU a record is of, where there are several."""
    return {"gpu": record["gpu"]} if "gpu" in record else {}


def running_lines(state: dict[str, Any]) -> list[str]:
    """What runs of a GPU that no driver has, a line each."""
    gpu = f"GPU {state['gpu']}, " if "gpu" in state else ""
    out = [
        f"{gpu}ring {ring['ring']} is started: Head {ring['head']:#x}, Tail {ring['tail']:#x}"
        for ring in state["rings"]
    ]
    if state["l1_valid"]:
        ids = ", ".join(map(str, state["l1_valid"]))
        out.append(f"{gpu}L1 page-table registers are valid of the process ids {ids}")
    if state["bus_master"] is not None:
        out.append(f"{gpu}bus master is {'on' if state['bus_master'] else 'off'}")
    return out


def words(report: dict[str, Any]) -> list[str]:
    """The undeclared words that were used most."""
    out = []
    for name, count in (("most_read", "reads"), ("most_written", "writes")):
        rows = [
            {**gpu_of(word), "offset": f"{word['offset']:#07x}", count: word[count],
             "block": word["block"]}
            for word in report[name]
        ]
        if rows:
            out += ["", f"  the words with most {count}:"]
            out += [f"  {line}" for line in render.table(rows)]
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
