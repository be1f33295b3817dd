"""Making a node a cluster of its own: asking everybody first."""
