"""The Debian mirror that the host's own apt configuration names.

Only an entry of the Debian archive itself will do: third-party repositories
and the security archive do not hold the kernels and QEMU that are wanted.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SUITES = {"stable", "oldstable", "testing", "bookworm", "trixie", "forky", "sid"}


@dataclass
class Source:
    """One `deb` entry: a URI with its suites and what restricts it."""

    uri: str
    suites: list[str]
    components: list[str]
    signed_by: str = field(default="")

    def is_debian_archive(self) -> bool:
        """Whether this entry is the main Debian archive."""
        return (
            bool(SUITES & set(self.suites))
            and "main" in self.components
            and not self.uri.startswith("cdrom:")
            and "security" not in self.uri
            and (not self.signed_by or "debian-archive" in self.signed_by)
        )


def parse_list(text: str) -> list[Source]:
    """Entries of the one-line format: `deb [options] URI suite components`."""
    sources = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options, uri, suite, components = match.groups()
            signed = re.search(r"signed-by=(\S+)", options or "", re.IGNORECASE)
            key = signed.group(1) if signed else ""
            sources.append(Source(uri, [suite], components.split(), key))
    return sources


def parse_deb822(text: str) -> list[Source]:
    """Entries of the deb822 format: stanzas of `Field: value` lines."""
    sources = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
        if enabled and "deb" in fields.get("types", "").split():
            suites = fields.get("suites", "").split()
            components = fields.get("components", "").split()
            for uri in fields.get("uris", "").split():
                sources.append(Source(uri, suites, components, fields.get("signed-by", "")))
    return sources


def choose_mirror(sources: Iterable[Source]) -> str | None:
    """The URI of the best Debian archive entry: a signed one, then the first."""
    usable = [source for source in sources if source.is_debian_archive()]
    usable.sort(key=lambda source: not source.signed_by)
    return usable[0].uri if usable else None


def host_mirror(etc: Path = Path("/etc/apt")) -> str | None:
    """The mirror that the host's apt uses, or None when it names none."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    sources = []
    for file in files:
        try:
            text = file.read_text("utf-8", errors="replace")
        except OSError:
            continue
        if file.suffix == ".list":
            sources += parse_list(text)
        elif file.suffix == ".sources":
            sources += parse_deb822(text)
    return choose_mirror(sources)
