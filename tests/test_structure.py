"""The code follows its rules of structure and language. Each fault is reported with its file and line."""

import ast
import io
import re
import subprocess
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAX_CONSTRUCTOR_ARGUMENTS = 6

TOP_LEVEL = {"__init__.py", "__main__.py", "app.py", "servers.py"}
"""`servers.py` is the part of `app.py` that is imported while the broker is being connected."""

DOCUMENTED = {"_asdict", "_exit", "_fields", "_mapping", "_replace", "_value_"}
"""Names that the standard library and SQLAlchemy document although they begin with an underscore."""

OWN = {"bridge": {"self", "cls", "other"}, "tests": {"self", "cls"}}
"""Names of objects whose private attributes a method may use; `other` is the argument of `__eq__`."""

ABSENT_DOCUMENTS = re.compile(r"\b(?:CONTRACT|DESIGN|PROTOCOL)\b")

HARD_WORDS = re.compile(
    r"\b(?:whoever|whom|somebody|nobody|anybody|whatever|thereof|aloud|for ever|lest)\b", re.IGNORECASE
)

COMMENTED = ("*.yaml", "*.yml", "*.toml", "*.sh", "*.conf", "*Dockerfile", "scripts/*")
"""Other files whose comments begin with `#`."""

Finding = tuple[str, int, str]
"""File (relative to the root), line, and what is wrong there."""


@cache
def files(*patterns: str) -> tuple[str, ...]:
    """Return the files of the repository that match a pattern, without this one and those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    own = Path(__file__).relative_to(ROOT).as_posix()
    return tuple(name for name in sorted(listed) if name != own and (ROOT / name).exists())


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for name in files(*(f"{folder}/*.py" for folder in folders)):
        yield name, tree(name)


@cache
def prose(name: str) -> tuple[tuple[int, str], ...]:
    """Return the lines of a document; of code only comments and docstrings, and in bridge/ also messages."""
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return tuple(enumerate(text.splitlines(), 1))
    if not name.endswith(".py"):
        return tuple((number, line) for number, line in enumerate(text.splitlines(), 1) if "#" in line)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    # Text without assignment is a docstring, or documents the constant above it.
    docstrings = {node.value for node in ast.walk(tree(name)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(name)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if node in docstrings or (name.startswith("bridge/") and " " in node.value):
            lines += enumerate(node.value.splitlines(), node.lineno)
    return tuple(lines)


def modules_at_the_top() -> Iterator[Finding]:
    for name, _ in modules("bridge"):
        folder, _, file = name.rpartition("/")
        if folder == "bridge" and file not in TOP_LEVEL:
            yield name, 1, "move it into a folder: bridge/ itself has only " + ", ".join(sorted(TOP_LEVEL))


def duplicate_classes() -> Iterator[Finding]:
    found: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, module in modules("bridge"):
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append((name, node.lineno))
    for class_name, places in found.items():
        for name, line in places:
            others = ", ".join(f"{file}:{at}" for file, at in places if file != name)
            if others:
                yield name, line, f"class {class_name} has the name of another one: {others}"


def large_constructors() -> Iterator[Finding]:
    for name, module in modules("bridge"):
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if count > MAX_CONSTRUCTOR_ARGUMENTS:
                    yield (
                        name,
                        node.lineno,
                        f"{count} arguments: group related ones, {MAX_CONSTRUCTOR_ARGUMENTS} are the limit",
                    )


def private_attributes() -> Iterator[Finding]:
    for name, module in modules("bridge", "tests"):
        for node in ast.walk(module):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
                continue
            owner = node.value
            is_own = (isinstance(owner, ast.Name) and owner.id in OWN[name.partition("/")[0]]) or (
                isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
            )
            if not is_own and node.attr not in DOCUMENTED:
                yield name, node.lineno, f"{ast.unparse(node)} is private: give its owner a public seam"


def keys_by_id() -> Iterator[Finding]:
    for name, module in modules("bridge"):
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "id":
                yield name, node.lineno, f"{ast.unparse(node)} as a key: Python reuses the id of a deleted object"


def absent_documents() -> Iterator[Finding]:
    for name in files("*.py", "*.md", *COMMENTED):
        for line, text in prose(name):
            if found := ABSENT_DOCUMENTS.search(text):
                yield name, line, f"cites {found[0]}, which is not in this repository: cite a page of docs/"


def hard_words() -> Iterator[Finding]:
    for name in files("*.py", *COMMENTED):
        for line, text in prose(name):
            if found := HARD_WORDS.search(text):
                yield name, line, f"{found[0]!r}: say who or what it is, in plain words"


RULES: list[Callable[[], Iterator[Finding]]] = [
    modules_at_the_top, duplicate_classes, large_constructors, private_attributes, keys_by_id, absent_documents,
    hard_words,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_follows_the_rule(rule: Callable[[], Iterator[Finding]]) -> None:
    findings = [f"{name}:{line}: {message}" for name, line, message in rule()]
    assert not findings, "\n".join(findings)
