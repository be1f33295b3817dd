"""The output of commands: lines, tables, progress, errors, logs."""
