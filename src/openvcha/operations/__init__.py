"""What each operation of the API does."""
