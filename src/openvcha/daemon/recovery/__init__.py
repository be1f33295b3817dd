"""What an operator does with a node whose cluster cannot recover by itself."""
