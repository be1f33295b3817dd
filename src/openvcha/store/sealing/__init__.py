"""Records that only data nodes can write: seals, and the store that checks them."""
