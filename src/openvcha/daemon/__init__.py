"""A data node's two programs, the service and the API, and what runs before or without them."""
