"""Making a node stand-alone after asking all other nodes."""
