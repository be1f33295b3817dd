"""What commands print: lines, tables, progress, errors, logs."""
