"""Plain Linux machines as hosts, reached by SSH: what they are, and whether they are ready."""
