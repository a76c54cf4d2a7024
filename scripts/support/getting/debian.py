"""Debian packages without root: a private apt directory in the cache.

apt fetches (it resumes and verifies by Debian's signatures), `dpkg-deb -x`
unpacks; nothing is installed and no maintainer script runs. The host's own apt
settings are not read, but for its mirror and its proxies.
"""

import os
import re
import subprocess
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from .. import commands
from ..cache import Cache, write_atomically
from ..errors import Refused
from . import apt_sources

RELEASE = "trixie"
BACKPORTS = f"{RELEASE}-backports"
LISTS_MAX_AGE_SECONDS = 24 * 3600
KEYRINGS = [
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
]

DIRECTORIES = [
    "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "etc/trusted.gpg.d",
    "state/lists/partial", "archives/partial", "debs",
]

CONFIG = """\
Dir "/";
Dir::Etc "{root}/etc";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
Dir::Log "{root}/log";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
"""


@dataclass(frozen=True)
class Package:
    """One version of one package, as apt resolved it."""

    name: str
    version: str
    file_name: str
    size_bytes: int

    @property
    def spec(self) -> str:
        """The package as apt's command line takes it."""
        return f"{self.name}={self.version}"


class Debian:
    """The private apt directory; made at first need, so that a warm run needs no network."""

    def __init__(self, cache: Cache, refresh: bool = False) -> None:
        """With `refresh` the package lists are fetched even if they are of today."""
        self._cache = cache
        self._refresh = refresh
        self._root = cache.root / "apt"
        self._debs = self._root / "debs"
        self._ready = False

    def closure(self, names: list[str], suite: str) -> list[Package]:
        """The named packages and all that they depend on, from `suite` where it has them."""
        arguments = ["install", "--print-uris", "-qq", "-y", "-t", suite, *names]
        return parse_uris(self._apt_get(arguments))

    def packages(self, specs: list[str]) -> list[Package]:
        """Just these packages (`name` or `name=version`), without what they depend on."""
        return parse_uris(self._apt_get(["download", "--print-uris", "-qq", *specs]))

    def versions(self, name: str) -> list[str]:
        """All versions of a package that the mirror has, newest first."""
        rows = self._apt_cache(["madison", name]).splitlines()
        return list(dict.fromkeys(row.split("|")[1].strip() for row in rows if "|" in row))

    def depends(self, name: str, version: str) -> list[str]:
        """The names in a package's Depends field (the first of each alternative)."""
        shown = self._apt_cache(["show", f"{name}={version}"])
        match = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        terms = match.group(1).split(",") if match else []
        return [re.split(r"[ |(:]", term.strip())[0] for term in terms]

    def candidate(self, name: str, suite: str) -> str:
        """The newest version of a package in exactly this suite."""
        for row in self._apt_cache(["madison", name]).splitlines():
            fields = [field.strip() for field in row.split("|")]
            if len(fields) == 3 and f" {suite}/" in fields[2]:
                return fields[1]
        raise Refused(f"the Debian mirror {self._mirror()} has no {name} in {suite}")

    def unpack(self, packages: list[Package], into: Path) -> None:
        """Download what is missing and unpack all packages into one directory."""
        self._download(packages)
        for number, package in enumerate(packages, 1):
            self._cache.progress.detail(f"unpacking {number} of {len(packages)}")
            deb = self._debs / package.file_name
            run = subprocess.run(
                ["dpkg-deb", "-x", deb, into], capture_output=True, text=True, check=False
            )
            if run.returncode != 0:
                deb.unlink(missing_ok=True)
                raise Refused(f"cannot unpack {deb.name}: {commands.last_line(run.stderr)}")

    def _download(self, packages: list[Package]) -> None:
        missing = [package for package in packages if not self._is_here(package)]
        if not missing:
            return
        megabytes = sum(p.size_bytes for p in missing) / 1e6
        self._cache.progress.detail(f"downloading {megabytes:.0f} MB")
        self._apt_get(["download", "-q", *(p.spec for p in missing)], progress=True)

    def _is_here(self, package: Package) -> bool:
        """Whether a package was downloaded whole; a run that was killed may leave a part."""
        deb = self._debs / package.file_name
        if deb.exists() and deb.stat().st_size != package.size_bytes:
            deb.unlink()
        return deb.exists()

    def _apt_get(self, arguments: list[str], progress: bool = False) -> str:
        self._prepare()
        return self._run(["apt-get", *arguments], progress)

    def _apt_cache(self, arguments: list[str]) -> str:
        self._prepare()
        return self._run(["apt-cache", *arguments])

    def _prepare(self) -> None:
        """Write the private configuration and have package lists not older than a day."""
        if self._ready:
            return
        root = self._root
        for directory in DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        keyring, mirror = find_keyring(), self._mirror()
        write_atomically(root / "apt.conf", CONFIG.format(root=root) + host_proxies())
        entry = f"deb [signed-by={keyring}] {mirror}"
        wanted = "".join(f"{entry} {suite} main\n" for suite in (RELEASE, BACKPORTS))
        stamp = root / "updated"
        try:
            age = time.time() - stamp.stat().st_mtime
            fresh = age < LISTS_MAX_AGE_SECONDS and stamp.read_text("utf-8") == wanted
            fresh = fresh and not self._refresh
        except OSError:
            fresh = False
        if not fresh:
            write_atomically(root / "etc/sources.list", wanted)
            update = ["apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any"]
            self._run(update, progress=True)
            write_atomically(stamp, wanted)
        self._ready = True

    def _mirror(self) -> str:
        mirror = os.environ.get("PRESIL_DEBIAN_MIRROR") or apt_sources.host_mirror()
        if not mirror:
            raise Refused(
                "no Debian mirror: /etc/apt names none; set PRESIL_DEBIAN_MIRROR to one's URL"
            )
        return mirror.rstrip("/")

    def _run(self, command: list[str], progress: bool = False) -> str:
        """Run an apt command; its progress events become ours.

        What apt downloads lands in the working directory. Queries run elsewhere:
        `--print-uris` leaves out what the working directory holds.
        """
        environment = {"APT_CONFIG": str(self._root / "apt.conf"), "LC_ALL": "C"}
        status_read, status_write = os.pipe()
        options = ["-o", f"APT::Status-Fd={status_write}"] if progress else []
        watcher = threading.Thread(target=self._watch, args=[status_read])
        watcher.start()
        try:
            result = commands.run(
                [command[0], *options, *command[1:]], environment=environment,
                cwd=self._debs if progress else self._root, pass_fds=[status_write],
            )
        finally:
            os.close(status_write)
            watcher.join()
        if result.status != 0:
            # What the lists name may be gone from the mirror: the next run fetches them anew.
            (self._root / "updated").unlink(missing_ok=True)
            raise Refused(self._explain(command, result.errors))
        return result.output

    def _watch(self, descriptor: int) -> None:
        """Turn apt's `dlstatus:N:PERCENT:TEXT` lines into progress."""
        with open(descriptor, encoding="utf-8", errors="replace") as events:
            for event in events:
                fields = event.split(":", 3)
                if fields[0] == "dlstatus" and len(fields) == 4:
                    self._cache.progress.detail(f"{float(fields[2]):.0f} % downloaded")

    def _explain(self, command: list[str], errors: str) -> str:
        """One line for the user out of what apt said."""
        reasons = [line[2:].strip() for line in errors.splitlines() if line.startswith("E:")]
        if not reasons:
            reasons = [commands.last_line(errors)]
        network = re.search(
            r"resolve|resolving|connect|unreachable|timed out|timeout|Failed to fetch", errors
        )
        hint = f"the Debian mirror {self._mirror()} cannot be used (is there a network?)"
        network = network and "No space left" not in errors
        what = hint if network else f"{command[0]} {command[1]} failed"
        return f"{what}: {reasons[0]}"


def find_keyring() -> Path:
    """Debian's archive keys as the host has them; they verify every download."""
    for keyring in KEYRINGS:
        if keyring.exists():
            return keyring
    raise Refused(f"no {KEYRINGS[-1]}: install the package debian-archive-keyring")


def host_proxies() -> str:
    """The host's apt proxies as configuration lines: without them a mirror may be out of reach."""
    environment = {name: value for name, value in os.environ.items() if name != "APT_CONFIG"}
    keys = ["Acquire::http::Proxy", "Acquire::https::Proxy"]
    run = subprocess.run(
        ["apt-config", "dump", "--format", "%F \"%v\";%n", *keys],
        env=environment, capture_output=True, text=True, check=False,
    )
    return "".join(f"{line}\n" for line in run.stdout.splitlines() if not line.endswith('"";'))


def parse_uris(output: str) -> list[Package]:
    """Packages out of apt's `--print-uris` lines: `'URI' FILE SIZE HASH`."""
    packages = []
    for line in output.splitlines():
        match = re.match(r"'([^']+)' (\S+) (\d+)", line)
        if match:
            file_name = match.group(2)
            name, version, _ = file_name.rsplit("_", 2)
            version = urllib.parse.unquote(version)
            packages.append(Package(name, version, file_name, int(match.group(3))))
    return packages
