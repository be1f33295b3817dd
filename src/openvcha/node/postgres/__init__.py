"""A node's own PostgreSQL: settings, roles, copies, and what is wrong with it."""
