"""The random end of the bridge's client ids at the broker."""

from sqlalchemy import Connection, insert, select

from bridge.store.database import Database
from bridge.store.tables import MQTT_CLIENT


async def stored_client_suffix(database: Database, new_suffix: str) -> str:
    """Return the stored suffix; store `new_suffix` first if there is none. Raises UnavailableError.

    It must stay the same: the broker keeps person changes for the session of the old client id.
    """
    return await database.write(_read_or_store, new_suffix)


def _read_or_store(connection: Connection, new_suffix: str) -> str:
    stored = connection.execute(select(MQTT_CLIENT.c.suffix)).scalar()
    if stored is None:
        connection.execute(insert(MQTT_CLIENT).values(suffix=new_suffix))
        return new_suffix
    return str(stored)
