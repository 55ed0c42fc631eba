"""The configuration: its schema, loading it, and faults that name file, line and key."""
