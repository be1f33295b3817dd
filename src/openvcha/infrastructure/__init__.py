"""Where nodes live: the protocol, and one module for each kind."""
