"""Translation of texts whose template is not known: stored ones, and those from other processes.

The log, the reasons beside a person and the doctor's findings are English texts. `TextRecognizer` finds the template
that a text was made of among the catalog's messages, and puts the text's values into the translation.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from bridge.web.page.translations import Catalog, noop

_MIN_LITERAL_LETTERS = 5
"""Letters outside the values of a template. One with fewer fits almost every text: a value must be recognised too."""

_MAX_CHARACTERS = 4_000
"""Longer texts are not recognised; the doctor's longest has a quarter of that."""

_MAX_DEPTH = 4
"""Texts in texts: a list of faults, of which one has a place, and quotes the driver's reason."""

_MAX_PARTS = 8
"""Semicolons at which a text is divided."""

_CACHED_TEXTS = 2_000
"""A page of the log has 50."""

_CUT = "…"
"""The end of a text that was shortened, as the log does it."""

_MIN_CUT_LETTERS = 12
"""Letters of the template in a text that was shortened."""

_PLACE = re.compile(r"%\((\w+)\)s")

_COMPOSITIONS = (
    (
        re.compile(r"(?P<what>.+?) \((?P<reason>.*)\): (?P<to_do>.+)", re.DOTALL),
        noop("%(what)s (%(reason)s): %(to_do)s"),
    ),
    (re.compile(r"(?P<what>.+?) \((?P<reason>.+)\)", re.DOTALL), noop("%(what)s (%(reason)s)")),
    (re.compile(r"(?P<what>.+?) \((?P<reason>[^)]+…)", re.DOTALL), "%(what)s (%(reason)s)"),
    (re.compile(r"(?P<path>[A-Za-z_][\w.]*): (?P<what>.+)", re.DOTALL), noop("%(path)s: %(what)s")),
)
"""Ways in which texts are put together, each with its template."""

_LIST = noop("%(first)s; %(others)s")
"""The template of a list of texts."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A message with values.

    Attributes:
        message: the English message.
        literals: the text before, between and behind the values.
        names: of the values, in their order.
    """

    message: str
    literals: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def literal_characters(self) -> int:
        return sum(map(len, self.literals))

    def values_in(self, text: str) -> dict[str, str] | None:
        """Return the values of a text; None if it was not made of this template."""
        first, *middle, last = self.literals
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return None
        end = len(text) - len(last)
        position = len(first)
        found = []
        for literal in middle:
            at = text.find(literal, position, end)
            if at < 0:
                return None
            found.append(text[position:at])
            position = at + len(literal)
        found.append(text[position:end])
        values: dict[str, str] = {}
        for name, value in zip(self.names, found, strict=True):
            if values.setdefault(name, value) != value:
                return None
        return values

    def values_in_start(self, text: str) -> dict[str, str] | None:
        """Return the values of the start of a text; None if it is too short to recognise the template."""
        first, *others = self.literals
        if not text.startswith(first):
            return None
        position, letters = len(first), len(re.findall("[A-Za-z]", first))
        values = dict.fromkeys(self.names, _CUT)
        for name, literal in zip(self.names, others, strict=True):
            at = text.find(literal, position) if literal else -1
            if at < 0:
                # The text can end in this literal.
                values[name] = text[position:] + _CUT
                for length in range(min(len(literal), len(text) - position), 0, -1):
                    if text.endswith(literal[:length]):
                        values[name] = text[position : len(text) - length]
                        letters += len(re.findall("[A-Za-z]", literal[:length]))
                        break
                break
            values[name] = text[position:at]
            position = at + len(literal)
            letters += len(re.findall("[A-Za-z]", literal))
        return values if letters >= _MIN_CUT_LETTERS else None


class TextRecognizer:
    """Translates English texts by finding their templates."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        templates = [_template_of(message) for message in catalog.messages() if _PLACE.search(message)]
        # The one with most literal text says most about what a text is.
        self._plain = [message for message in catalog.messages() if not _PLACE.search(message)]
        templates.sort(key=lambda one: one.literal_characters, reverse=True)
        self._templates = [one for one in templates if _letters(one) >= _MIN_LITERAL_LETTERS]
        self._frames = [one for one in templates if 0 < _letters(one) < _MIN_LITERAL_LETTERS]
        self._cached = lru_cache(_CACHED_TEXTS)(self._recognise)

    def translate(self, text: str) -> str | None:
        """Return the translation of a text; None if it is not recognised."""
        return None if len(text) > _MAX_CHARACTERS else self._cached(text, 0)

    def _recognise(self, text: str, depth: int) -> str | None:
        if depth > _MAX_DEPTH or not text.strip():
            return None
        exact = self._catalog.gettext(text)
        if exact != text:
            return exact
        for template in self._templates:
            values = template.values_in(text)
            if values is not None:
                return self._filled(template.message, values, depth)
        found = self._list(text, depth) or self._composition(text, depth) or self._frame(text, depth)
        return found or (self._cut(text.removesuffix(_CUT), depth) if text.endswith(_CUT) else None)

    def _list(self, text: str, depth: int) -> str | None:
        for number, match in enumerate(re.finditer("; ", text)):
            if number == _MAX_PARTS:
                break
            first = self._cached(text[: match.start()], depth + 1)
            others = None if first is None else self._cached(text[match.end() :], depth + 1)
            if first is not None and others is not None:
                return self._catalog.gettext(_LIST) % {"first": first, "others": others}
        return None

    def _composition(self, text: str, depth: int) -> str | None:
        for pattern, template in _COMPOSITIONS:
            match = pattern.fullmatch(text)
            if match is not None and self._cached(match["what"], depth + 1) is not None:
                return self._filled(template, match.groupdict(), depth)
        return None

    def _cut(self, text: str, depth: int) -> str | None:
        """Return the translation of a text that was cut at its end; `…` stands for missing values."""
        for template in self._templates:
            values = template.values_in_start(text)
            if values is not None:
                return self._filled(template.message, values, depth)
        return next(
            (
                self._catalog.gettext(one)
                for one in self._plain
                if len(text) >= _MIN_CUT_LETTERS and one.startswith(text)
            ),
            None,
        )

    def _frame(self, text: str, depth: int) -> str | None:
        for template in self._frames:
            values = template.values_in(text)
            if values is not None and any(
                " " in value and self._cached(value, depth + 1) is not None for value in values.values()
            ):
                return self._filled(template.message, values, depth)
        return None

    def _filled(self, message: str, values: dict[str, str], depth: int) -> str:
        # A value of one word is a name, a number or a topic: it stays as it is, also if a message looks like it.
        translated = {
            name: (self._cached(value, depth + 1) if " " in value.strip() else None) or value
            for name, value in values.items()
        }
        return self._catalog.gettext(message) % translated


def _template_of(message: str) -> _Template:
    parts = [part.replace("%%", "%") if number % 2 == 0 else part for number, part in enumerate(_PLACE.split(message))]
    return _Template(message, tuple(parts[::2]), tuple(parts[1::2]))


def _letters(template: _Template) -> int:
    """Return the number of letters outside the values."""
    return len(re.findall(r"[A-Za-z]", "".join(template.literals)))
