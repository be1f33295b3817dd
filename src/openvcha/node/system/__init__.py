"""What the operating system demands: durable files, giving up root, safe paths."""
