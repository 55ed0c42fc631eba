"""Photos of persons."""
