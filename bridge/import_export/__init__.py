"""Files of persons, read and written: CSV, JSON, or a ZIP of a table and pictures (CONTRACT, section 7).

Formats only: what a row means for the roster, and what differs from it, is decided by whoever reads. What is read
becomes what `parse_person` takes, row by row, so that a file of gigabytes needs the memory of one row.
"""
