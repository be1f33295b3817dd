"""How the contract is spoken: REST, legacy REST, JSON-RPC, OpenAPI; sessions, users, TLS."""
