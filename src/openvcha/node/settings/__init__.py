"""The settings of a machine's node: one table, and what is made of it."""
