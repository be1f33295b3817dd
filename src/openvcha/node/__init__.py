"""What runs inside one node: the supervisor, its parts, identity and addresses."""
