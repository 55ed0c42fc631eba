"""The MQTT client: paho-mqtt inside the event loop."""
