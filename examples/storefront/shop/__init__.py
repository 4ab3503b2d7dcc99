"""Products, customers, and what they are told."""
