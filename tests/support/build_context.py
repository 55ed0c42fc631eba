"""The files that Docker sends to a build, by the rules of `.dockerignore`.

The rules are those of https://docs.docker.com/build/concepts/context/#dockerignore-files: the last pattern that matches
a path or one of its parents decides; `!` lets a path in again; `*` and `?` stop at a slash, `**` does not.

Podman, and Docker without BuildKit, skip an excluded folder if no pattern with `!` begins with its path.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of a `.dockerignore`."""

    pattern: re.Pattern[str]
    excludes: bool


def read_rules(text: str) -> Sequence[Rule]:
    """Read the content of a `.dockerignore`."""
    rules = []
    for line in text.removeprefix("\ufeff").splitlines():
        words = line.strip()
        # Only a `#` in the first column starts a comment.
        if line.startswith("#") or not words:
            continue
        excludes = not words.startswith("!")
        path = posixpath.normpath(words.removeprefix("!").strip()).lstrip("/")
        rules.append(Rule(re.compile(_expression(path), re.DOTALL), excludes))
    return rules


def is_sent(path: str, rules: Sequence[Rule]) -> bool:
    """Return whether a file of the context is sent.

    Args:
        path: the file, relative to the context, with slashes.
        rules: the rules in their order.
    """
    parts = path.split("/")
    paths = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    sent = True
    for rule in rules:
        if any(rule.pattern.fullmatch(one) for one in paths):
            sent = not rule.excludes
    return sent


def sent_files(context: Path) -> Iterator[str]:
    """Return the files and links that Docker sends when it builds a folder."""
    rules = read_rules((context / ".dockerignore").read_text())
    for file in sorted(context.rglob("*")):
        name = file.relative_to(context).as_posix()
        if (file.is_symlink() or not file.is_dir()) and is_sent(name, rules):
            yield name


def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    found = []
    for part in re.findall(r"\*\*/?|\*|\?|\\.|\[\^?\]?[^]]*\]|.", pattern):
        match part:
            case "**" | "**/":
                found.append("(?:.*/)?" if part.endswith("/") else ".*")
            case "*":
                found.append("[^/]*")
            case "?":
                found.append("[^/]")
            case _ if part.startswith("["):
                found.append(part)
            case _:
                found.append(re.escape(part[-1]))
    return "".join(found)
