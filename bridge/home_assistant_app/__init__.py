"""The Home Assistant app: the bridge with the app's options and Home Assistant's broker."""
