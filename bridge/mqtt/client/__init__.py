"""The MQTT client of the bridge and of `facebridge doctor`: paho in the asyncio event loop."""
