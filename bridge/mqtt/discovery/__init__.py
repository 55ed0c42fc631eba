"""Home Assistant's MQTT discovery: one device per terminal, and the bridge's own before them (CONTRACT, section 5).

The payloads are Home Assistant's device discovery (https://www.home-assistant.io/integrations/mqtt/): `dev`, `o` and
`cmps` once a device, with options that hold for every component unless it says otherwise. `default_entity_id` names
the entities; `object_id`, which did before, is gone since Home Assistant 2026.4.
"""
