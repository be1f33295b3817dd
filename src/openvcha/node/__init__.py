"""What runs inside one node: supervisor, its parts, identity, addresses."""
