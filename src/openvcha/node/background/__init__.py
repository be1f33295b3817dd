"""The supervisor's background jobs; besides them, it keeps the node's processes running."""
