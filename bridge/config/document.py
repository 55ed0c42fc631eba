"""YAML files as plain data with the line of each key. PyYAML's nodes carry lines; the values it loads do not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 1024 * 1024
"""Size of a configuration file. Ten thousand listed terminals fit into it."""

_MAX_VALUES = 200_000
"""Values in one document, with aliases expanded: a few lines of aliases can expand to billions of values."""

_MAX_DEPTH = 20
"""Levels of nesting; the schema has five."""

_CORE = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({"str", "value", "merge"})
"""Tags of scalars that are text. A single `=` or `<<` has a tag of its own."""

_SCALAR_TYPES = {"null": "null", "bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date"}
"""Names for users of the other scalar tags."""

KeyPath = tuple[str, ...]
"""Keys from the top of a document to a value; items of lists have numbers."""

TagReader = Callable[[str], object]
"""Returns the value for the text behind a tag, or raises ValueError with the fault."""


class DocumentError(Exception):
    """The file is not a readable YAML document.

    Attributes:
        line: the line of the fault, from 1; None if it has none.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Document:
    """The content of a file.

    Attributes:
        value: dictionaries, lists and scalars; None for an empty file.
        lines: by path, the line of each key; of a value without a key, its own line.
        faults: the faults of its structure: path, line, message.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[KeyPath, int, str]] = field(default_factory=list)


def read_document(file: Path, tags: Mapping[str, TagReader]) -> Document:
    """Read a YAML file.

    Args:
        file: the file.
        tags: the application's tags, by name, as `!secret`.

    Raises:
        DocumentError: it cannot be read, or is not UTF-8 or not YAML.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise DocumentError("there is no such file") from None
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise DocumentError(f"is larger than {MAX_FILE_BYTES / 1e6:.1f} MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8", content[: error.start].count(b"\n") + 1) from None
    return parse_document(text, tags)


def parse_document(text: str, tags: Mapping[str, TagReader]) -> Document:
    """Parse YAML. Raises as `read_document`."""
    try:
        loader, node = _compose(text)
        document = Document()
        if node is not None:
            document.value = _Reader(loader, document, tags).read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(f"is not valid YAML: {_problem(error)}", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DocumentError("contains a character that YAML does not allow", line) from None
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    return document


def _compose(text: str) -> tuple[yaml.constructor.SafeConstructor, yaml.Node | None]:
    """Return a document's root node, and the loader that makes values of its scalars. Raises yaml.YAMLError.

    With libyaml, the file of ten thousand terminals takes 0.4 s of processor time instead of 2.2 s. PyYAML's own parser
    describes faults better, so it parses a file with a fault again.
    """
    if yaml.__with_libyaml__:
        try:
            fast = yaml.CSafeLoader(text)
            return fast, fast.get_single_node()
        except (yaml.YAMLError, UnicodeEncodeError):
            # A lone surrogate, as in an environment variable that is not UTF-8, is a ReaderError of the other parser.
            pass
    loader = yaml.SafeLoader(text)
    return loader, loader.get_single_node()


_EXPLANATIONS = {
    "found character '\\t'": "a tab: indent with spaces",
    "found a tab character": "a tab: indent with spaces",
    "could not find expected ':'": "a colon is missing: write `key: value`, with a space behind the colon; a text that"
    " goes on in the next line must be in quotes",
    "mapping values are not allowed here": "a colon that is not expected here: the line above has no colon, this line"
    " is indented too far, or a text that contains `: ` must be in quotes",
    "expected <block end>, but found": "wrong indentation: lines of the same level begin in the same column, and a text"
    " that contains quotes must be in quotes itself",
    "found unexpected end of stream": "a quote or bracket is not closed",
    "found unexpected ':'": "a text that contains `:` must be in quotes",
    "expected ',' or ']'": "a list in brackets is not closed, or a comma is missing",
    "expected ',' or '}'": "a section in braces is not closed, or a comma is missing",
}
"""Explanations of the parser's messages, by their beginning."""


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return the parser's message. Messages that could repeat a password are replaced."""
    problem = error.problem or error.context or "unreadable"
    for beginning, explanation in _EXPLANATIONS.items():
        if problem.startswith(beginning):
            return explanation
    if problem.startswith("found undefined alias"):
        return "text that begins with * must be in quotes"
    if problem.startswith("found undefined tag handle"):
        return "text that begins with ! must be in quotes"
    if problem == "second occurrence":
        return "this anchor is defined above already; text that begins with & must be in quotes"
    if problem == "but found another document":
        return "a second document begins here, and only one is allowed"
    return problem


class _Reader:
    """Turns PyYAML's nodes into plain data, and notes lines and faults in a document."""

    def __init__(
        self, loader: yaml.constructor.SafeConstructor, document: Document, tags: Mapping[str, TagReader]
    ) -> None:
        self._loader = loader
        self._document = document
        self._tags = tags
        self._values = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count(line)
        if len(path) > _MAX_DEPTH:
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
        if kind in _TEXT_TAGS:
            return node.value
        if kind not in _SCALAR_TYPES:
            return self._unknown_tag(path, line)
        try:
            return self._loader.construct_object(node)
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            # PyYAML matches patterns only: 2026-99-99 looks like a date, and the text of `!!bool maybe` is not checked.
            message = f"YAML reads this as {_SCALAR_TYPES[kind]}, but it is not a valid one: put it in quotes"
            return self._unreadable(path, line, message)

    def _fill(self, value: dict[str, Any], node: yaml.MappingNode, path: KeyPath) -> None:
        """Add the keys of a mapping to `value`, first its own, then merged ones; existing keys are not replaced."""
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
                self._unreadable(inner, line, f"this key exists already, in line {own[key]}: remove one of them")
                continue
            own[key] = line
            if key not in value:
                self._document.lines.setdefault(inner, line)
                value[key] = self.read(value_node, inner)
        for source in merged:
            if isinstance(source, yaml.MappingNode):
                self._fill(value, source, path)
            else:
                self._unreadable(path, source.start_mark.line + 1, "<< must have a mapping or a list of mappings")

    def _read_key(self, node: yaml.Node, path: KeyPath, line: int) -> str | None:
        """Return a key as it is written, or None for a fault. No tags, because faults show keys, but not secrets."""
        kind = node.tag.removeprefix(_CORE)
        if not isinstance(node, yaml.ScalarNode) or kind not in _TEXT_TAGS | _SCALAR_TYPES.keys():
            self._unreadable(path, line, "a key must be text, without a tag")
            return None
        if kind not in _TEXT_TAGS:
            message = f"YAML reads this key as {_SCALAR_TYPES[kind]}: put it in quotes"
            self._unreadable((*path, node.value), line, message)
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
        if self._values > _MAX_VALUES:
            raise DocumentError("contains too many values", line)


class _Unreadable:
    """The type of `UNREADABLE`."""

    def __repr__(self) -> str:
        return "(unreadable)"


UNREADABLE = _Unreadable()
"""The value of a key that could not be read. Its fault is recorded already, so checks let it pass."""
