"""HTTPS: accepting connections, what a client may do with one, and TLS."""
