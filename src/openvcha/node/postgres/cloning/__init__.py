"""The copy of the data that turns a node into a standby, and the old data that it replaces."""
