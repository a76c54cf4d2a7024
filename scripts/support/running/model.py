"""What the model says of its GPUs at the end of a run."""

from pathlib import Path
from typing import Any

from . import control

QUESTIONS = ("counters", "misuse", "undeclared", "running", "faults")
OF_ALL = "gpus"
"""Each GPU's own answers, where there are several."""


def look(path: Path, gpus: int = 1) -> dict[str, Any]:
    """What the model and its door counted so far, and the histories of what went wrong.

    Of several GPUs numbers are sums, and a record says in its `gpu` which one it is of.
    `unanswered` has the questions without an answer.
    """
    each = [of_one(path, f"gpu {number} " if gpus > 1 else "") for number in range(gpus)]
    return each[0] if gpus == 1 else {**together(each), OF_ALL: each}


def of_one(path: Path, prefix: str) -> dict[str, Any]:
    """The answers of one GPU."""
    answers = {question: control.ask(path, prefix + question) for question in QUESTIONS}
    unanswered = [answer["error"] for answer in answers.values() if "error" in answer]
    counters, misuse, words, running, histories = (
        {} if "error" in answer else answer for answer in answers.values()
    )
    return {
        "device": {**counters.get("device", {}), "door": counters.get("door", {})},
        "undeclared": counters.get("undeclared", []),
        "most_read": words.get("most_read", []),
        "most_written": words.get("most_written", []),
        "misuse": misuse.get("registers", []),
        "running": [running] if running else [],
        **histories,
        "unanswered": unanswered,
    }


def together(each: list[Any]) -> Any:
    """Several answers as one: numbers added, records of lists marked with their GPU's number."""
    first = each[0]
    if isinstance(first, dict):
        names = dict.fromkeys(name for one in each for name in one)
        return {name: together([one[name] for one in each if name in one]) for name in names}
    if isinstance(first, list):
        return [marked(record, number) for number, one in enumerate(each) for record in one]
    return sum(each) if isinstance(first, int) and not isinstance(first, bool) else first


def marked(record: Any, gpu: int) -> Any:
    """A record with the number of the GPU that it is of."""
    if not isinstance(record, dict):
        return f"GPU {gpu}: {record}"
    text = {"text": f"GPU {gpu}: {record['text']}"} if "text" in record else {}
    return {"gpu": gpu, **record, **text}
