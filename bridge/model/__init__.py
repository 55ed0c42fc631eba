"""The vocabulary every part shares: plain values without I/O, importing nothing else of the project."""
