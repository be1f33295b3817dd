"""The operating system: durable files, locks, processes, dropping root, terminals."""
