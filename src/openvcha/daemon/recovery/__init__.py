"""Manual recovery of a node whose cluster cannot recover by itself."""
