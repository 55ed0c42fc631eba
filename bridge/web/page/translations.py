"""The page's languages: gettext catalogs, and the choice of a language for a request."""

import gettext
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files

DEFAULT_LANGUAGE = "en"

LANGUAGES: Mapping[str, str] = {"en": "English", "zh-CN": "简体中文"}
"""The names of the languages, each in itself, by language tag (RFC 5646)."""

_CATALOGS: Mapping[str, str] = {"zh-CN": "zh_CN"}
"""The folder of each catalog."""

_SIMPLIFIED = re.compile(r"zh|zh-(?:cn|sg|hans)(?:-.*)?")
"""Tags that mean Simplified Chinese, in lower case."""

_MAX_HEADER_CHARACTERS = 200
"""Browsers send a tenth of that."""


class Catalog(gettext.GNUTranslations):
    """A catalog that names its messages."""

    _catalog: dict[object, str]

    def messages(self) -> Iterator[str]:
        """Return the English messages without a plural."""
        return (message for message in self._catalog if isinstance(message, str) and message)


def load_catalogs() -> Mapping[str, Catalog]:
    """Return the catalog of each language but English, which is the language of the source."""
    catalogs: dict[str, Catalog] = {}
    for language, folder in _CATALOGS.items():
        file = files("bridge.web.page").joinpath("locale", folder, "LC_MESSAGES", "page.mo")
        with file.open("rb") as catalog:
            catalogs[language] = Catalog(catalog)
    return catalogs


def choose_language(chosen: str | None, accept_language: str) -> str:
    """Return the language of a response.

    Args:
        chosen: the language that the user has chosen, or None.
        accept_language: the request's header.
    """
    if chosen is not None and chosen in LANGUAGES:
        return chosen
    for tag in _preferred(accept_language[:_MAX_HEADER_CHARACTERS]):
        if tag.partition("-")[0] == "en":
            return "en"
        if _SIMPLIFIED.fullmatch(tag):
            return "zh-CN"
    return DEFAULT_LANGUAGE


def noop(message: str) -> str:
    """Mark a message for translation that a template translates later."""
    return message


def _preferred(header: str) -> Iterable[str]:
    """Return the tags of an Accept-Language header in lower case, the preferred one first."""
    weighted = []
    for part in header.split(","):
        tag, _, parameter = part.strip().partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            weight = 0.0
        if tag and weight > 0:
            weighted.append((-weight, tag.strip().lower()))
    # Sorting keeps the header's order of equal weights.
    return [tag for _, tag in sorted(weighted, key=lambda one: one[0])]
