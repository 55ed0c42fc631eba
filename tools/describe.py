"""Writes the documents that are derived from the code's own tables.

`python -m tools.describe docs` writes the AsyncAPI document, the OpenAPI document and the JSON Schemas and the
reference pages, and renews the table of a person's fields in docs/mqtt.md. `scripts/describe` runs it.
"""

import json
import re
from pathlib import Path
from typing import Any

import click

from bridge.core.commands import COMMANDS
from bridge.mqtt.topics import PUBLISHED_TOPICS
from bridge.persons.fields import FIELDS
from bridge.persons.schema import PERSON_SCHEMA
from tools import openapi
from tools.asyncapi import asyncapi_document
from tools.catalogue import catalogue
from tools.references import reference_pages

PAGE_WITH_PERSON_FIELDS = "mqtt.md"
_TABLE_START = "<!-- scripts/describe writes this table from bridge/persons/fields.py -->\n\n"
_TABLE_END = "\n<!-- end of the table -->\n"


def documents() -> dict[str, str]:
    """Return the text of each generated file, by its path below the folder of the documents."""
    schemas = catalogue()
    titles = {
        PERSON_SCHEMA["title"],
        *(definition.payload_schema["title"] for definition in COMMANDS),
        *(payload["title"] for publication in PUBLISHED_TOPICS for payload in publication.payloads),
    }
    return {
        "asyncapi.json": _text(asyncapi_document(schemas)),
        "openapi.json": _text(openapi.document()),
        **reference_pages(),
        **{f"schemas/{_file_name(title)}": _text(schemas.document(title)) for title in sorted(titles)},
    }


def with_person_fields(page: str) -> str:
    """Return the text of a Markdown page with the table of a person's fields renewed.

    Raises:
        ValueError: the page does not mark exactly one place for it.
    """
    pattern = re.escape(_TABLE_START) + ".*?" + re.escape(_TABLE_END)
    renewed, count = re.subn(pattern, lambda _: _TABLE_START + _person_fields() + _TABLE_END, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{count} places are marked for the table of a person's fields")
    return renewed


def write_documents(folder: Path) -> None:
    """Write the generated files, delete schemas that no longer exist, and renew the table if the page is there."""
    wanted = documents()
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    for path in (folder / "schemas").glob("*.json"):
        if f"schemas/{path.name}" not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    page = folder / PAGE_WITH_PERSON_FIELDS
    if page.exists():
        page.write_text(with_person_fields(page.read_text(encoding="utf-8")), encoding="utf-8")


def _person_fields() -> str:
    rows = [
        ["field", "the vendor's name", "meaning", "example"],
        ["---"] * 4,
        *([_code(one.name), _code(one.vendor_name), one.description, _code(_json(one.examples[0]))] for one in FIELDS),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _code(text: str | None) -> str:
    return "" if text is None else f"`{text}`"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _file_name(title: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", title).lower() + ".json"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def main(folder: Path) -> None:
    """Write asyncapi.json, openapi.json, schemas/*.json, reference-*.md and the table of a person's fields."""
    write_documents(folder)


if __name__ == "__main__":
    main()
