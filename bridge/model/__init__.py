"""The values that all parts share: plain data without I/O. Imports nothing else of the project."""
