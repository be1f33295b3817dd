"""What is wrong with a PostgreSQL: why it does not start, lags or is not safe."""
