"""Names of what the cluster creates in PostgreSQL: roles, the first database."""

SUPERUSER = "postgres"
REPLICATION_USER = "replicator"
REWIND_USER = "rewind"
OWN_ROLES = (SUPERUSER, REPLICATION_USER, REWIND_USER)

APPLICATION_USER = "app"
APPLICATION_DATABASE = "app"
"""What a new cluster has for the application that uses it."""
