"""What is broken about a GPU on purpose."""

import itertools
from collections.abc import Sequence


def asked(server_options: Sequence[str]) -> list[str]:
    """What the server is told to break, by the names of `presil serve --defect help`."""
    names: list[str] = []
    for option, value in itertools.pairwise([*server_options, ""]):
        if option == "--defect":
            names += value.split(",")
        elif option.startswith("--defect="):
            names += option.removeprefix("--defect=").split(",")
    return names
