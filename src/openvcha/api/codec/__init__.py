"""Values to and from what the protocols carry: one strict decoder and encoder for all of them."""
