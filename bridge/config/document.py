"""YAML as plain data that still knows its lines. PyYAML's nodes carry them; its loaded values don't."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAXIMUM_SIZE = 1024 * 1024
"""Bytes of a configuration: ten thousand listed terminals have that room."""

_MAXIMUM_VALUES = 200_000
"""Values in one document, aliases followed: a few lines of aliases can stand for billions."""
_MAXIMUM_DEPTH = 20
"""Levels; the schema has five."""

_CORE = "tag:yaml.org,2002:"
_TEXT = frozenset({"str", "value", "merge"})
"""What is text where a value stands; a lone `=` or `<<` has a tag of its own."""
_KINDS = {"null": "null", "bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date"}
"""What else a scalar may be, in words."""

KeyPath = tuple[str, ...]
"""Where a value stands: keys and, in lists, numbers."""
TagReader = Callable[[str], object]
"""Makes a value of the text behind a tag, or raises ValueError with what is wrong."""


class DocumentError(Exception):
    """The file cannot be read as YAML.

    Attributes:
        line: from 1, None where no line is to blame.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Document:
    """A file's content.

    Attributes:
        value: dicts, lists and scalars; an empty file is None.
        lines: of each value's key, or of the value itself where it has none, by its path.
        faults: what the structure itself has wrong: path, line, message.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[KeyPath, int, str]] = field(default_factory=list)


def read_document(file: Path, tags: Mapping[str, TagReader]) -> Document:
    """Read a YAML file.

    Args:
        file: which.
        tags: what may stand behind `!`, by name.

    Raises:
        DocumentError: it cannot be read, is no UTF-8 or no YAML.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAXIMUM_SIZE + 1)
    except FileNotFoundError:
        raise DocumentError("there is no such file") from None
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAXIMUM_SIZE:
        raise DocumentError(f"has more than {MAXIMUM_SIZE} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8", content[: error.start].count(b"\n") + 1) from None
    return parse_document(text, tags)


def parse_document(text: str, tags: Mapping[str, TagReader]) -> Document:
    """Read YAML; errors as for `read_document`."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        document = Document()
        if node is not None:
            document.value = _Reader(loader, document, tags).read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(f"is not YAML: {_problem(error)}", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DocumentError("holds a character that YAML does not allow", line) from None
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    return document


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what the parser says, unless that could repeat a password."""
    problem = error.problem or error.context or "unreadable"
    if problem.startswith("found undefined alias"):
        return "text that begins with * must be in quotes"
    if problem.startswith("found undefined tag handle"):
        return "text that begins with ! must be in quotes"
    if problem == "second occurrence":
        return "this anchor stands above already; text that begins with & must be in quotes"
    if problem == "but found another document":
        return "a second document begins here, and only one is allowed"
    return problem


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, document: Document, tags: Mapping[str, TagReader]) -> None:
        self._loader = loader
        self._document = document
        self._tags = tags
        self._values = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count(line)
        if len(path) > _MAXIMUM_DEPTH:
            raise DocumentError("is nested too deeply", line)
        kind = node.tag.removeprefix(_CORE)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            value: dict[str, Any] = {}
            self._fill(value, node, path)
            return value
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.read(item, (*path, str(index))) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._read_scalar(node, kind, path, line)
        return self._unknown_tag(path, line)

    def _read_scalar(self, node: yaml.ScalarNode, kind: str, path: KeyPath, line: int) -> Any:
        if node.tag in self._tags:
            try:
                return self._tags[node.tag](str(node.value).strip())
            except ValueError as error:
                return self._unreadable(path, line, str(error))
        if kind in _TEXT:
            return node.value
        if kind not in _KINDS:
            return self._unknown_tag(path, line)
        try:
            return self._loader.construct_object(node)
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            # PyYAML trusts its patterns: 2026-99-99 looks like a date, and `!!bool maybe` was never looked at.
            return self._unreadable(
                path, line, f"YAML takes this for {_KINDS[kind]}, which it is not: put it in quotes"
            )

    def _fill(self, value: dict[str, Any], node: yaml.MappingNode, path: KeyPath) -> None:
        """Add a mapping's keys to those already there, which win; what it merges comes after its own."""
        own: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            self._count(line)
            if key_node.tag == f"{_CORE}merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = self._read_key(key_node, path, line)
            if key is None:
                continue
            inner = (*path, key)
            if key in own:
                self._unreadable(inner, line, f"stands here again, first in line {own[key]}")
                continue
            own[key] = line
            if key not in value:
                self._document.lines.setdefault(inner, line)
                value[key] = self.read(value_node, inner)
        for source in merged:
            if isinstance(source, yaml.MappingNode):
                self._fill(value, source, path)
            else:
                self._unreadable(path, source.start_mark.line + 1, "<< takes a mapping, or a list of them")

    def _read_key(self, node: yaml.Node, path: KeyPath, line: int) -> str | None:
        """Return a key as it is written; a tag's text is none, for a key is shown in faults."""
        kind = node.tag.removeprefix(_CORE)
        if not isinstance(node, yaml.ScalarNode) or kind not in _TEXT | _KINDS.keys():
            self._unreadable(path, line, "a key must be text, without a tag")
            return None
        if kind not in _TEXT:
            self._unreadable((*path, node.value), line, f"YAML takes this key for {_KINDS[kind]}: put it in quotes")
        return str(node.value)

    def _unknown_tag(self, path: KeyPath, line: int) -> object:
        known = " and ".join(self._tags) or "none"
        message = f"unknown tag (known: {known}); text that begins with ! must be in quotes"
        return self._unreadable(path, line, message)

    def _unreadable(self, path: KeyPath, line: int, message: str) -> object:
        self._document.faults.append((path, line, message))
        return UNREADABLE

    def _count(self, line: int) -> None:
        self._values += 1
        if self._values > _MAXIMUM_VALUES:
            raise DocumentError("holds too many values", line)


class _Unreadable:
    """Stands for a value whose fault is told already."""

    def __repr__(self) -> str:
        return "(unreadable)"


UNREADABLE = _Unreadable()
"""The value of what could not be read; whoever checks values lets it pass."""
