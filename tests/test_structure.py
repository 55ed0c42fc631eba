"""The code keeps the rules of its structure and of its language; a walk over every file names each breach."""

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

TOP_LEVEL = {"__init__.py", "__main__.py", "app.py"}

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
    """Return what a file says in plain language, by line: a document whole, of code its comments and docstrings."""
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return tuple(enumerate(text.splitlines(), 1))
    if not name.endswith(".py"):
        return tuple((number, line) for number, line in enumerate(text.splitlines(), 1) if "#" in line)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(tree(name)):
        # A docstring, or the text under a constant or an attribute.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines += enumerate(node.value.value.splitlines(), node.lineno)
    return tuple(lines)


def modules_at_the_top() -> Iterator[Finding]:
    for name, _ in modules("bridge"):
        folder, _, file = name.rpartition("/")
        if folder == "bridge" and file not in TOP_LEVEL:
            yield name, 1, "belongs in a folder: at the top of bridge/ there are only " + ", ".join(sorted(TOP_LEVEL))


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
                yield name, node.lineno, f"{ast.unparse(node)} as a key: an id is used again after its object is gone"


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

EXCEPTIONS: dict[str, set[str]] = {
    "duplicate_classes": {
        "bridge/mqtt/lease.py", "bridge/mqtt/live_commands.py", "bridge/persons/ports.py",
        "bridge/store/persons.py", "bridge/terminals/server.py", "bridge/web/server.py",
    },
    "large_constructors": {
        "bridge/core/admission.py", "bridge/mqtt/adapter.py", "bridge/mqtt/bridge_info.py",
        "bridge/mqtt/intake.py", "bridge/persons/service.py",
        "bridge/simulator/fleet.py", "bridge/simulator/terminal.py", "bridge/terminals/session.py",
        "bridge/web/server.py",
    },
    "private_attributes": {
        "tests/access/test_roles_at_the_broker.py", "tests/import_export/test_importing.py",
        "tests/mqtt/test_bounds.py",
        "tests/mqtt/test_terminal_states.py", "tests/mqtt/test_wanted_over_mqtt.py",
        "tests/persons/test_delivery_worker.py", "tests/persons/test_expiry.py",
        "tests/persons/test_external_changes.py", "tests/persons/test_service_restart.py",
        "tests/store/test_store_database.py", "tests/terminals/test_authentication.py",
        "tests/terminals/test_bad_links.py", "tests/terminals/test_strangers.py", "tests/test_documents.py",
        "tests/web/test_health_and_metrics.py", "tests/web/test_http_connections.py", "tests/web/test_logins.py",
        "tests/web/test_websites.py",
    },
    "keys_by_id": {
        "bridge/persons/preparation.py", "bridge/persons/service.py",
    },
    "absent_documents": {
        "bridge/config/", "bridge/core/", "bridge/import_export/", "bridge/model/", "bridge/mqtt/",
        "bridge/persons/", "bridge/protocol/", "bridge/simulator/", "bridge/store/", "bridge/terminals/",
        "bridge/web/", "tests/command_line/", "tests/home_assistant/", "tests/mqtt/", "tests/simulator/",
        "tests/support/", "tests/terminals/", "tests/web/",
    },
    "hard_words": {
        "benchmarks/", "bridge/app.py", "bridge/cli/", "bridge/config/", "bridge/core/",
        "bridge/home_assistant_app/", "bridge/import_export/", "bridge/model/", "bridge/mqtt/", "bridge/net/",
        "bridge/persons/", "bridge/protocol/", "bridge/simulator/", "bridge/store/", "bridge/terminals/",
        "bridge/web/", "config.yaml",
        "tests/access/", "tests/command_line/", "tests/contract/", "tests/core/", "tests/doctor/",
        "tests/end_to_end/", "tests/home_assistant/", "tests/home_assistant_app/", "tests/import_export/",
        "tests/machine/", "tests/node_red/", "tests/persons/", "tests/protocol/", "tests/simulator/",
        "tests/store/", "tests/support/", "tests/terminals/", "tests/web/",
    },
}  # fmt: skip
"""By rule, the files and folders that do not keep it yet. The test fails for an entry that is no longer needed."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Callable[[], Iterator[Finding]]) -> None:
    excepted = tuple(EXCEPTIONS.get(rule.__name__, ()))
    findings = list(rule())
    new = [f"{name}:{line}: {message}" for name, line, message in findings if not name.startswith(excepted)]
    assert not new, "\n".join(new)
    unneeded = [entry for entry in excepted if not any(name.startswith(entry) for name, _, _ in findings)]
    assert not unneeded, f"these keep the rule: remove them from EXCEPTIONS[{rule.__name__!r}]: {sorted(unneeded)}"
