"""The page's translations: extracts messages, updates the catalogs and compiles them. `scripts/translate` runs it."""

import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from tools.message_sources import MessageSources

BRIDGE = Path(__file__).parents[1] / "bridge"
PAGE = BRIDGE / "web" / "page"

_NOT_ON_THE_PAGE = ("cli", "config", "control", "home_assistant_app", "protocol", "simulator", "terminals")
"""Packages with texts that the page does not show: those of the command line, and the terminals' side."""

_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
_OPTIONS = {"templates/**.html": {"trimmed": "true", "silent": "false"}}
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "noop": None, "message": None}


def extracted() -> Catalog:
    """Return the messages of the templates and the code."""
    catalog = Catalog(project="Facebridge", charset="utf-8")
    found = list(extract_from_dir(PAGE, _METHODS, _OPTIONS, _KEYWORDS))
    known = {message for _, _, message, _, _ in found}
    found += [(text.file, text.line, text.text, [], None) for text in texts().texts if text.text not in known]
    for file, line, message, comments, context in sorted(found, key=lambda one: (one[0], one[1])):
        catalog.add(message, None, [(Path(file).as_posix(), line)], auto_comments=comments, context=context)
    return catalog


def texts() -> MessageSources:
    """Return the texts that the page can show, from the modules that make them."""
    files = sorted(BRIDGE.rglob("*.py"))
    return MessageSources(BRIDGE, (one for one in files if one.relative_to(BRIDGE).parts[0] not in _NOT_ON_THE_PAGE))


def catalog_files() -> Iterator[Path]:
    """Return the catalog of each language but English."""
    yield from sorted(PAGE.glob("locale/*/LC_MESSAGES/page.po"))


def read(file: Path) -> Catalog:
    """Return a stored catalog."""
    with file.open("rb") as content:
        return read_po(content, locale=file.parents[1].name)


def compiled(catalog: Catalog) -> bytes:
    """Return the content of the `.mo` file of a catalog."""
    content = io.BytesIO()
    write_mo(content, catalog)
    return content.getvalue()


def main() -> None:
    """Update and compile every catalog."""
    template = extracted()
    for file in catalog_files():
        catalog = read(file)
        # A new time in the header would make every two changes of messages conflict.
        created = catalog.creation_date
        # Without fuzzy matching: a translation of another message would look right and be wrong.
        catalog.update(template, no_fuzzy_matching=True)
        catalog.creation_date = created
        catalog.obsolete.clear()
        content = io.BytesIO()
        write_po(content, catalog, width=120, omit_header=False, no_location=True, sort_output=True)
        file.write_bytes(content.getvalue())
        file.with_suffix(".mo").write_bytes(compiled(catalog))


if __name__ == "__main__":
    main()
