"""Generators of documents that are derived from the code; not part of the package.

They write the AsyncAPI document, the JSON Schemas and tables in docs/ from the tables that the bridge itself uses.
"""
