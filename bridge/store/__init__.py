"""The database: tables, migrations, and the queries behind the ports of hub and roster.

SQLite in a file by default, PostgreSQL by `store.url`. What has been committed is on the disk: an acknowledgement to
the broker rests on it. No exception of SQLAlchemy or of a driver leaves this package.
"""
