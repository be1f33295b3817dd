"""The supervisor's background jobs, beside keeping its processes running."""
