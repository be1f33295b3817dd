"""The cluster's own roles in PostgreSQL."""

SUPERUSER = "postgres"
REPLICATION_USER = "replicator"
REWIND_USER = "rewind"
OWN_ROLES = (SUPERUSER, REPLICATION_USER, REWIND_USER)
