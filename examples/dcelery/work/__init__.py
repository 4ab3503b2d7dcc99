"""Tasks, and what is done with them."""
