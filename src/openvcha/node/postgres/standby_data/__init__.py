"""A standby's data: the base backup that it starts with, and the old data that it replaces."""
