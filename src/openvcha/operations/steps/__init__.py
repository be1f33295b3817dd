"""The steps that tasks are made of, and what several of them share."""
