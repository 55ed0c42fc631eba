"""The contract for machines: an AsyncAPI document and JSON Schemas, made of the tables that the code runs on."""
