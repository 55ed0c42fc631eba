"""Files of persons: CSV, JSON, or a ZIP of a table and pictures (docs/persons.md).

`reading` and `writing` handle the formats and know nothing of terminals: a row becomes what `parse_person` takes. They
work row by row, so a file of several gigabytes needs the memory of one row. The other modules compare rows with the
store, and change the store.
"""
