"""An existing PostgreSQL data directory that becomes the first node's."""
