"""The rows of the table: what is measured of each subject."""
