"""Files that are complete after a crash, their owners, and locks."""
