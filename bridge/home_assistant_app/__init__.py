"""The Home Assistant app: from its options and the Supervisor to a running bridge. Composition, as `app.py` is."""
