"""The command line."""

# Before any of the modules that log: each of them imports structlog as it is.
from openvcha.store.structured import structlog as structlog
