"""YAML as plain data that still knows its lines. PyYAML's nodes carry them; its loaded values don't."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bridge.model.faults import shorten

MAXIMUM_SIZE = 1024 * 1024
"""Bytes of a configuration: ten thousand listed terminals have that room."""

_MAXIMUM_VALUES = 200_000
"""Values in one document, aliases followed: a few lines of aliases can stand for billions."""
_MAXIMUM_DEPTH = 20
"""Levels; the schema has five."""

Path_ = tuple[str, ...]
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
        lines: of each value, by its path.
        faults: what the structure itself has wrong: path, line, message.
    """

    value: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)
    faults: list[tuple[Path_, int, str]] = field(default_factory=list)


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
        raise DocumentError(f"is not YAML: {error.problem or error.context}", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DocumentError("holds a character that YAML does not allow", line) from None
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    return document


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, document: Document, tags: Mapping[str, TagReader]) -> None:
        self._loader = loader
        self._document = document
        self._tags = tags
        self._values = 0

    def read(self, node: yaml.Node, path: Path_) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._values += 1
        if self._values > _MAXIMUM_VALUES:
            raise DocumentError("holds too many values", line)
        if len(path) > _MAXIMUM_DEPTH:
            raise DocumentError("is nested too deeply", line)
        if node.tag.startswith("!"):
            return self._read_tag(node, path, line)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, str(index))) for index, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except ValueError:
            # A date or a number that YAML's patterns let through, like 2026-99-99.
            return node.value

    def _read_tag(self, node: yaml.Node, path: Path_, line: int) -> object:
        reader = self._tags.get(node.tag)
        if reader is None or not isinstance(node, yaml.ScalarNode):
            known = " and ".join(self._tags) or "none"
            self._document.faults.append((path, line, f"unknown tag {shorten(node.tag, 40)} (known: {known})"))
            return UNREADABLE
        try:
            return reader(str(node.value).strip())
        except ValueError as error:
            self._document.faults.append((path, line, str(error)))
            return UNREADABLE

    def _read_mapping(self, node: yaml.MappingNode, path: Path_) -> dict[Any, Any]:
        self._loader.flatten_mapping(node)
        value: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.faults.append((path, line, "a key must be text"))
                continue
            key = self.read(key_node, (*path, key_node.value))
            inner = (*path, str(key))
            if key in value:
                first = self._document.lines[inner]
                self._document.faults.append((inner, line, f"stands here again, first in line {first}"))
                continue
            self._document.lines[inner] = line
            value[key] = self.read(value_node, inner)
        return value


class _Unreadable:
    """Stands for a value whose fault is told already."""

    def __repr__(self) -> str:
        return "(unreadable)"


UNREADABLE = _Unreadable()
"""The value of a tag that could not be followed; whoever checks values lets it pass."""
