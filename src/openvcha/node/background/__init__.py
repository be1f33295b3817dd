"""What a supervisor does beside keeping its processes running: each duty by itself."""
