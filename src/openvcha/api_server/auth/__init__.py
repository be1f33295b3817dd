"""Authentication: users, passwords, sessions, and limits for failed logins."""
