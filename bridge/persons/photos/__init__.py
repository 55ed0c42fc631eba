"""Photos of persons: read from where users give them, converted for the terminals, deleted when unused."""
