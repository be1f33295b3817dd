"""How a new node joins: its token, its call, and the files that it gets."""
