"""The OpenAPI document, generated from the table of operations."""
