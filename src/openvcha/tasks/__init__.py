"""Durable tasks: the journal, steps, progress, cancel, resume."""
