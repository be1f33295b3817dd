"""A node's own PostgreSQL: settings, roles, base backups and diagnosis."""
