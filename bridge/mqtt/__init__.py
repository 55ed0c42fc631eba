"""Face: the bridge on MQTT. Two connections to the broker, the topics of CONTRACT section 4, and discovery."""
