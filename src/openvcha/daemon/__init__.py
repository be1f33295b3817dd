"""The programs of a data node: its service, which runs while the node is up, and its API."""
