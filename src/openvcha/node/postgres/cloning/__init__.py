"""The copy of the data that makes a node a standby, and the old data that it replaces."""
