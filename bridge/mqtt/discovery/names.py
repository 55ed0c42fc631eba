"""The ids of devices and entities."""

import re
import unicodedata
import zlib

_NOT_IN_AN_OBJECT_ID = re.compile(r"[^A-Za-z0-9]+")
_NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")
_LETTER = re.compile(r"[a-z]")

_MAX_SLUG_CHARACTERS = 100
"""With the domain, an SN and the key, an entity id stays below the 255 characters that Home Assistant accepts. It cuts
longer ones; then all ids of a terminal are equal, and it fails to add them."""

_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i", "'": None}
)
"""Latin letters that Unicode does not decompose, as Home Assistant transliterates them."""


def node_of(base: str) -> str:
    """Return an id for this bridge's devices, made of its base topic, unique on the broker.

    Home Assistant allows letters, digits, `_` and `-` in a discovery topic. For a base topic with other characters, a
    checksum distinguishes it from one that becomes equal by their replacement.
    """
    plain = _NOT_IN_AN_OBJECT_ID.sub("_", base)
    return base if plain == base else f"{plain}_{zlib.crc32(base.encode()):08x}"


def slugify(text: str) -> str:
    """Return the part of an entity id for a name, as Home Assistant makes it from names in Latin letters.

    Returns:
        Lower-case letters and digits with single underscores between, cut to the maximum length; empty if no letter is
        left: Home Assistant transliterates other scripts, from tables that the bridge does not have.
    """
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_WITHOUT_DECOMPOSITION))
    slug = _NOT_IN_A_SLUG.sub("_", "".join(c for c in decomposed if not unicodedata.combining(c))).strip("_")
    slug = slug[:_MAX_SLUG_CHARACTERS].rstrip("_")
    return slug if _LETTER.search(slug) else ""


class EntityNames:
    """The start of each terminal's entity ids, unique among the terminals."""

    def __init__(self) -> None:
        self._by_sn: dict[str, str] = {}
        self._owners: dict[str, str] = {}

    def name(self, sn: str, title: str) -> str:
        """Return the start for a terminal of this title; the SN is added if another terminal has the title."""
        self.forget(sn)
        own = _NOT_IN_A_SLUG.sub("_", sn.lower()).strip("_")
        slug = slugify(title) or f"terminal_{own}"
        if slug in self._owners:
            slug = f"{slug}_{own}"
        self._by_sn[sn] = slug
        self._owners.setdefault(slug, sn)
        return slug

    def forget(self, sn: str) -> None:
        """Release the name of a terminal that is forgotten."""
        slug = self._by_sn.pop(sn, None)
        if slug is not None and self._owners.get(slug) == sn:
            del self._owners[slug]
