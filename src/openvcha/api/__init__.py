"""The contract: operations, structures, errors and messages. Pure, without input or output."""
