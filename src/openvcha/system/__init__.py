"""What the operating system gives and demands: durable files, locks, processes, giving up root."""
