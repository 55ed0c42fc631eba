"""A reader for the part of the Dockerfile language that the app uses; anything else is an error."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import Template

_BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
"""The relevant variables that Docker's python images and the engine set."""

_CONTEXT = re.compile(r"--mount=type=bind,target=(/[^\s,]+) +")


class UnknownStepError(Exception):
    """A Dockerfile contains an instruction that this reader does not support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A command for `/bin/sh -c`.

    Attributes:
        command: the shell command.
        context: where the build context is mounted, read-only.
        folder: the working directory.
        environment: all variables.
    """

    command: str
    context: str | None
    folder: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that must exist."""

    path: str


@dataclass(slots=True)
class Recipe:
    """The steps of a Dockerfile, and the metadata of its image."""

    base: str = ""
    steps: list[Run | Folder] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: dict(_BASE_ENVIRONMENT))
    labels: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    command: Sequence[str] = ()


def read_dockerfile(text: str, arguments: Mapping[str, str]) -> Recipe:
    """Read a Dockerfile.

    Args:
        text: the content.
        arguments: `--build-arg`; every ARG must be one of them.

    Raises:
        UnknownStepError: the Dockerfile contains an unsupported instruction.
    """
    recipe = Recipe()
    known: dict[str, str] = {}
    for word, rest in _instructions(text):
        if (word == "FROM") != (not recipe.base):
            raise UnknownStepError(f"exactly one FROM is supported, at the beginning: {word} {rest}")
        values = {**known, **recipe.environment}
        match word:
            case "FROM":
                recipe.base = _plain(word, rest)
            case "ARG":
                if rest not in arguments:
                    raise UnknownStepError(f"{word} {rest}: not one of the arguments")
                known[rest] = arguments[rest]
            case "ENV":
                recipe.environment |= _pairs(rest, values)
            case "LABEL":
                recipe.labels |= _pairs(rest, values)
            case "WORKDIR":
                recipe.folder = _plain(word, rest)
                recipe.steps.append(Folder(recipe.folder))
            case "RUN":
                recipe.steps.append(_run(rest, recipe.folder, values))
            case "CMD":
                recipe.command = _words(word, rest)
            case _:
                raise UnknownStepError(f"{word} {rest}")
    return recipe


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\[ \t]*\n", "", lines).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _plain(word: str, rest: str) -> str:
    if len(rest.split()) != 1 or rest.startswith("-") or "$" in rest:
        raise UnknownStepError(f"{word} {rest}")
    return rest


def _pairs(rest: str, values: Mapping[str, str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in shlex.split(rest)]
    if not all(equals for _, equals, _ in pairs):
        raise UnknownStepError(rest)
    try:
        return {name: Template(value).substitute(values) for name, _, value in pairs}
    except (KeyError, ValueError) as error:
        raise UnknownStepError(f"{rest}: {error}") from None


def _run(rest: str, folder: str, values: Mapping[str, str]) -> Run:
    context = _CONTEXT.match(rest)
    command = rest[context.end() :] if context else rest
    if command.startswith(("-", "[", "<<")):
        raise UnknownStepError(f"RUN {rest}")
    return Run(command=command, context=context and context[1], folder=folder, environment=dict(values))


def _words(word: str, rest: str) -> Sequence[str]:
    if not rest.startswith("["):
        # Otherwise a shell would be the first process, and would receive SIGTERM.
        raise UnknownStepError(f"{word} {rest}")
    words: list[str] = json.loads(rest)
    return words
