"""Who may call: users, passwords, sessions, and what strangers may try."""
