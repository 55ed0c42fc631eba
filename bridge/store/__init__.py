"""The database: tables, migrations and queries.

SQLite in a file by default, PostgreSQL by `store.url`. A commit is on the disk when it returns, because the bridge
acknowledges messages to the broker after it. No exception of SQLAlchemy or of a driver leaves this package.
"""
