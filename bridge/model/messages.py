"""Messages for people that can be translated."""

from collections.abc import Callable, Mapping
from typing import Self

import orjson


class TranslatableMessage(str):
    """An English text that knows the template and the values it was made of.

    Attributes:
        template: the text with places for the values, as `at most %(limit)s characters`.
        values: the values by name; one can be a message itself.
    """

    __slots__ = ("template", "values")

    template: str
    values: Mapping[str, str]

    def __new__(cls, text: str, template: str, values: Mapping[str, str]) -> Self:
        """Return a message whose text was made before."""
        made = super().__new__(cls, text)
        made.template = template
        made.values = values
        return made

    def translated(self, translate: Callable[[str], str]) -> str:
        """Return the text in another language.

        Args:
            translate: returns the translation of a template, or the template itself if there is none.
        """
        template = translate(self.template)
        if template == self.template and not any(
            isinstance(value, TranslatableMessage) for value in self.values.values()
        ):
            # The text can be untrusted if there is no translation: nothing is put into it.
            return str(self)
        values = {name: translated(value, translate) for name, value in self.values.items()}
        return template % values if values else template


def message(template: str, **values: object) -> TranslatableMessage:
    """Return a message.

    Args:
        template: the English text with `%(name)s` for each value. `scripts/translate` collects it, so it must be
            literal.
        values: the values by name.
    """
    texts = {name: value if isinstance(value, str) else str(value) for name, value in values.items()}
    return TranslatableMessage(template % texts if texts else template, template, texts)


def translated(text: str, translate: Callable[[str], str]) -> str:
    """Return a text in another language; a text without a translation stays as it is."""
    return text.translated(translate) if isinstance(text, TranslatableMessage) else translate(text)


def encode_message(text: str) -> bytes:
    """Return a message as bytes for another process; `decode_message` reads them."""
    if not isinstance(text, TranslatableMessage):
        return orjson.dumps([text, text, {}])
    values = {name: str(value) for name, value in text.values.items()}
    return orjson.dumps([str(text), text.template, values])


def decode_message(encoded: bytes) -> str:
    """Return a message from another process, which is not trusted."""
    try:
        text, template, values = orjson.loads(encoded)
        if isinstance(text, str) and isinstance(template, str) and all(isinstance(one, str) for one in values.values()):
            return TranslatableMessage(text, template, values)
    except (AttributeError, TypeError, ValueError):
        pass
    return encoded.decode(errors="replace")
