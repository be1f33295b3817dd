"""The API contract: operations, structures, errors and messages. Pure: no I/O."""
