"""What is wrong with a cluster, and what soon will be: pure functions of an observation."""
