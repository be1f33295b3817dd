"""The accounts that programs run as: leaving root, and what goes along."""
