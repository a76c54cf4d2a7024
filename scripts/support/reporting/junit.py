"""scripts/run --junit: the checks of one run as test results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..building.setup import Prepared
from ..errors import Refused
from ..judging.results import Result, Results
from ..running import session
from ..running.session import Guest, Outcome

SUITE = "scripts/run"


@contextmanager
def told(file: Path) -> Iterator[None]:
    """The run that writes the file: no older one stays, and one that is refused is in it, too."""
    file.unlink(missing_ok=True)
    try:
        yield
    except (Refused, OSError) as error:
        Results([Result(SUITE, "set-up", problem=str(error))]).write_junit(file)
        raise


def of_run(prepared: Prepared, guest: Guest, outcome: Outcome) -> Results:
    """A run's checks, and its exit status where that is not 0 without a failed check."""
    suite = f"{SUITE}.{prepared.versions['kernel']}.{guest.door}"
    results = Results([of_check(suite, check) for check in outcome.checks])
    if outcome.exit_status and not results.count()[1]:
        status = f"exit status {outcome.exit_status}"
        results.rows.append(Result(suite, "run", problem=status))
    return results


def of_check(suite: str, check: dict[str, Any]) -> Result:
    """A check: it failed where it is bad, but for one that was not run."""
    name, mark = str(check.get("name")), session.mark(check)
    if mark == "----":
        return Result(suite, name, skipped=f"not run: {check['not_run']}")
    if mark == "skip" and not session.is_bad(check):
        return Result(suite, name, skipped=str(check["skipped"]))
    told = check.get("detail") or check.get("skipped") or "failed"
    return Result(suite, name, problem=str(told) if session.is_bad(check) else "")
