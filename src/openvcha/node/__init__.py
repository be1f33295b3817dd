"""The programs of one node: the supervisor and its parts, with identity and addresses."""
