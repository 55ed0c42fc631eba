"""Home Assistant's MQTT discovery: one device per terminal and one for the bridge (docs/home-assistant.md).

The payloads have the form of Home Assistant's device discovery (https://www.home-assistant.io/integrations/mqtt/):
`dev`, `o` and `cmps` once per device, with options that hold for every component unless it sets its own.
`default_entity_id` names the entities; it replaces `object_id`, which Home Assistant 2026.4 removed.
"""
