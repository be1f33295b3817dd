"""The HTTPS server: accepting connections, TLS, and limits for clients."""
