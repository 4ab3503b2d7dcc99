"""Client and worker over the memory driver."""
