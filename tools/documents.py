"""The files that hold the contract."""

import json
import re
from pathlib import Path
from typing import Any

from bridge.core.commands import COMMANDS
from bridge.mqtt.topics import PUBLICATIONS
from bridge.persons.schema import PERSON_SCHEMA
from tools.asyncapi import asyncapi_document
from tools.catalogue import catalogue


def documents() -> dict[str, str]:
    """Return the text of each file, by its path below the folder they belong in."""
    schemas = catalogue()
    titles = {
        PERSON_SCHEMA["title"],
        *(definition.payload_schema["title"] for definition in COMMANDS),
        *(payload["title"] for publication in PUBLICATIONS for payload in publication.payloads),
    }
    return {
        "asyncapi.json": _text(asyncapi_document(schemas)),
        **{f"schemas/{_file_name(title)}": _text(schemas.document(title)) for title in sorted(titles)},
    }


def write_documents(folder: Path) -> None:
    """Write the files, and delete schemas that are no longer."""
    wanted = documents()
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    for path in (folder / "schemas").glob("*.json"):
        if f"schemas/{path.name}" not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def _file_name(title: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", title).lower() + ".json"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
