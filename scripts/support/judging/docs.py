"""Holding README and docs/ against the programs: every option and question they show must exist."""

import re
import subprocess
import sys
from pathlib import Path

from ..cache import REPO

PROGRAMS = ("scripts/run", "scripts/test", "scripts/bench", "presil", "presilctl")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FENCE = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUESTION = re.compile(r"presil query \S+ ([a-z]+)")
ASSIGNMENT = re.compile(r"\w+=")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


def pages() -> list[Path]:
    """Every page of documentation."""
    return [REPO / "README.md", REPO / "CHANGELOG.md", *sorted((REPO / "docs").glob("*.md"))]


def problems(server: Path) -> list[str]:
    """What the pages say that is not so."""
    helps: dict[tuple[str, ...], str] = {}
    answered = questions(server)
    found = []
    for page in pages():
        text = page.read_text("utf-8")
        name = page.relative_to(REPO)
        for command in commands(text):
            found += [f"{name}: {problem}" for problem in check(command, server, helps)]
        for question in QUESTION.findall(text):
            if question not in answered:
                found.append(f"{name}: `presil query` does not answer {question}")
        for target in LINK.findall(text):
            if not (page.parent / target).exists():
                found.append(f"{name}: the link {target} leads nowhere")
    return found


def questions(server: Path) -> set[str]:
    """What `presil query` answers, by its help."""
    run = subprocess.run([server, "query", "--help"], capture_output=True, text=True, check=False)
    return set(re.findall(r"^  ([a-z]+)", run.stdout.partition("Questions:")[2], re.MULTILINE))


def commands(text: str) -> list[list[str]]:
    """The command lines in a page's shell blocks that call one of our programs."""
    found = []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.removeprefix("$ ").split("#")[0].split("&&"):
                words = [word for word in command.split() if not ASSIGNMENT.match(word)]
                if words and program(words[0]):
                    found += parts(words)
    return found


def parts(words: list[str]) -> list[list[str]]:
    """A command line; what scripts/run passes on behind `--` is one of the server's."""
    if program(words[0]) != "scripts/run" or "--" not in words:
        return [words]
    at = words.index("--")
    return [words[:at], ["presil", "serve", *words[at + 1 :]]]


def program(word: str) -> str | None:
    """Which of our programs a word names."""
    return next((p for p in PROGRAMS if word == p or word.endswith(f"/{p}")), None)


def check(command: list[str], server: Path, helps: dict[tuple[str, ...], str]) -> list[str]:
    """The options of one command line that its program does not know."""
    name = program(command[0])
    if name == "presilctl":
        return []  # the guest's: its own --help is tested there
    runner = [str(server)] if name == "presil" else [sys.executable, str(REPO / str(name))]
    sub = [w for w in command[1:2] if name == "presil" and not w.startswith("-")]
    key = (str(name), *sub)
    if key not in helps:
        run = subprocess.run([*runner, *sub, "--help"], capture_output=True, text=True, check=False)
        helps[key] = run.stdout if run.returncode == 0 else ""
    if not helps[key]:
        return [f"`{' '.join(key)} --help` fails"]
    known = set(OPTION.findall(helps[key]))
    return [
        f"`{' '.join(key)}` has no option {option}"
        for option in OPTION.findall(" ".join(command)) if option not in known
    ]
