"""The core: the known terminals and their connections, commands on their way to terminals, and events.

It does no network or disk I/O and imports no adapter (MQTT, HTTP, the terminals' WebSocket). Adapters call it, and it
reports everything else through events.
"""
