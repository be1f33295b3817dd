"""Periodic work of the service: it keeps PostgreSQL, copies, events and debts as they should be."""
