"""The machine's service manager (systemd): what a node tells it, and the files that it needs."""
