"""A node's own PostgreSQL: settings, roles, copies and diagnosis."""
