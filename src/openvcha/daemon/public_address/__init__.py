"""The public address: held while the node leads, listened at, and reported."""
