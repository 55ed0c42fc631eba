"""The MQTT adapter: two connections to the broker, the topics of docs/mqtt.md, and Home Assistant's discovery."""
