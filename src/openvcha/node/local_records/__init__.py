"""What a node keeps on its own disk, for when nobody else can be asked."""
