"""All named schemas of what the bridge reads and publishes over MQTT."""

from bridge.core.commands import COMMAND_NAME_SCHEMA, COMMANDS
from bridge.model.schema_catalogue import Catalogue
from bridge.mqtt.topics import PUBLISHED_TOPICS
from bridge.persons.schema import PERSON_ENTRY_SCHEMA, PERSON_SCHEMA, SINGLE_PERSON_SCHEMA


def catalogue() -> Catalogue:
    """Return every schema of what the bridge reads and publishes."""
    return Catalogue(
        (
            PERSON_SCHEMA,
            SINGLE_PERSON_SCHEMA,
            PERSON_ENTRY_SCHEMA,
            COMMAND_NAME_SCHEMA,
            *(definition.payload_schema for definition in COMMANDS),
            *(payload for publication in PUBLISHED_TOPICS for payload in publication.payloads),
        )
    )
