"""The ids of devices and entities."""

import re
import unicodedata
import zlib

_NOT_IN_AN_OBJECT_ID = re.compile(r"[^A-Za-z0-9]+")
_NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")
_LETTER = re.compile(r"[a-z]")

_LONGEST_SLUG = 100
"""Characters. With the domain, an SN and what the entity is, an id stays below the 255 that Home Assistant takes; it
cuts longer ones to where all of a terminal are the same, and then fails to add them."""

_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i", "'": None}
)
"""Latin letters that Unicode does not take apart, as Home Assistant's transliteration writes them."""


def node_of(base: str) -> str:
    """Return what tells this bridge's devices from another's on the same broker, made of its base topic.

    Home Assistant allows letters, digits, `_` and `-` in a discovery topic. A checksum tells a base that has others
    from one that only looks the same.
    """
    plain = _NOT_IN_AN_OBJECT_ID.sub("_", base)
    return base if plain == base else f"{plain}_{zlib.crc32(base.encode()):08x}"


def slugify(text: str) -> str:
    """Return the part of an entity id that a name gives, as Home Assistant makes it for names in Latin letters.

    Returns:
        Lower-case letters and digits with single underscores between, cut to what fits; empty where no letter is left,
        for Home Assistant transliterates other scripts from tables that are not here.
    """
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_WITHOUT_DECOMPOSITION))
    slug = _NOT_IN_A_SLUG.sub("_", "".join(c for c in decomposed if not unicodedata.combining(c))).strip("_")
    slug = slug[:_LONGEST_SLUG].rstrip("_")
    return slug if _LETTER.search(slug) else ""


class EntityNames:
    """Gives each terminal the start of its entity ids; no two get the same."""

    def __init__(self) -> None:
        self._by_sn: dict[str, str] = {}
        self._owners: dict[str, str] = {}

    def name(self, sn: str, title: str) -> str:
        """Return the start for a terminal that is called `title`; its SN is added where another was called so first."""
        self.forget(sn)
        own = _NOT_IN_A_SLUG.sub("_", sn.lower()).strip("_")
        slug = slugify(title) or f"terminal_{own}"
        if slug in self._owners:
            slug = f"{slug}_{own}"
        self._by_sn[sn] = slug
        self._owners.setdefault(slug, sn)
        return slug

    def forget(self, sn: str) -> None:
        """Let others have the name of a terminal that is forgotten."""
        slug = self._by_sn.pop(sn, None)
        if slug is not None and self._owners.get(slug) == sn:
            del self._owners[slug]
