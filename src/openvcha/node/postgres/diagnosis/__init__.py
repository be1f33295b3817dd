"""Diagnosis of a PostgreSQL: why it does not start, lags or is unsafe."""
