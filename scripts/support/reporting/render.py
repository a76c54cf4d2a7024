"""Plain data as text for people: aligned fields, tables, sizes with units."""

from typing import Any

ADDRESSES = {"addr", "va", "phys", "start", "end", "value", "pte"}
# What names a record stands first, what it is made of next; the rest follows as it came.
ORDER = [
    "name", "block", "process_id", "level", "index", "register_addr",
    "written_value", "read_back_value", "model_value", "start", "end", "bytes", "entries", "tables", "gpu_phys", "cpu_addr",
]
EXACT_BELOW = 10_000
UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"]
WIDTH = 96


def size(count: int) -> str:
    """`512 MiB` for 0x20000000: the largest unit that divides it, or a rounded number."""
    unit = 0
    while count and count % 1024 == 0 and unit + 1 < len(UNITS):
        count //= 1024
        unit += 1
    if count < EXACT_BELOW:
        return f"{count} {UNITS[unit]}"
    return f"{count / 1024:.1f} {UNITS[unit + 1]}" if unit + 1 < len(UNITS) else f"{count} TiB"


def ordered(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its fields in the order in which people read them."""
    first = [name for name in ORDER if name in record]
    return {name: record[name] for name in [*first, *(n for n in record if n not in first)]}


def scalar(name: str, value: Any) -> str:
    """One value, told by its field's name whether it is a size or an address."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        if name == "size" or name.endswith("bytes"):
            return size(value)
        if ADDRESSES & set(name.split("_")) and not name.endswith("page"):
            return f"{value:#x}"
        return f"{value:,}"
    return "-" if value is None else str(value)


def is_scalar(value: Any) -> bool:
    """Whether a value fits on its field's line."""
    return not isinstance(value, (dict, list))


def is_flat(row: Any) -> bool:
    """Whether a value is a record of plain fields, a row of a table."""
    return isinstance(row, dict) and all(map(is_scalar, row.values()))


def lines(value: Any, indent: int = 0, name: str = "") -> list[str]:
    """Any JSON value as indented lines."""
    pad = " " * indent
    if isinstance(value, dict):
        return fields(value, indent)
    if isinstance(value, list):
        if value and all(is_flat(row) for row in value):
            return [pad + row for row in table(value)]
        if all(map(is_scalar, value)):
            return wrapped([scalar(name, item) for item in value], pad)
        return [line for item in value for line in lines(item, indent, name)]
    return [pad + scalar(name, value)]


def fields(record: dict[str, Any], indent: int) -> list[str]:
    """A record: its plain fields aligned, then its nested ones below their names."""
    pad = " " * indent
    record = ordered(record)
    plain = {name: value for name, value in record.items() if is_scalar(value)}
    width = max((len(label(name)) for name in plain), default=0)
    out = [f"{pad}{label(name):<{width}}  {scalar(name, value)}" for name, value in plain.items()]
    for name, value in record.items():
        if name not in plain:
            out.append(f"{pad}{label(name)}")
            out += lines(value, indent + 2, name)
    return out


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Records with plain fields as columns; numbers stand to the right."""
    names = list(ordered(dict.fromkeys((name for row in rows for name in row), None)))
    cells = [[scalar(name, row.get(name)) for name in names] for row in rows]
    heads = [label(name) for name in names]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(names))]
    right = [all(isinstance(row.get(name), int) for row in rows) for name in names]
    out = []
    for line in [heads, *cells]:
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        out.append("  ".join(parts).rstrip())
    return out


def wrapped(words: list[str], pad: str) -> list[str]:
    """Words separated by blanks, in lines of at most WIDTH characters."""
    out = [pad.rstrip()] if not words else []
    line = ""
    for word in words:
        if line and len(pad) + len(line) + 1 + len(word) > WIDTH:
            out.append(pad + line)
            line = ""
        line = f"{line} {word}".strip()
    return [*out, pad + line] if line else out


def heading(text: str) -> list[str]:
    """A heading with a blank line above."""
    return ["", text, "-" * len(text)]


def label(name: str) -> str:
    """A field's name as words."""
    return name.replace("_", " ")
