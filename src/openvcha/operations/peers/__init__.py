"""The vCenter that manages the nodes: its connection, its identity, and the check of both."""
