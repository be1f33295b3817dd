"""The API's server: REST, legacy REST, JSON-RPC, OpenAPI; sessions, users, TLS."""
