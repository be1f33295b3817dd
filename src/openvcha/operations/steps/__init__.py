"""The steps of tasks, and what they share."""
