"""Driver families: one folder is one technology with all its roles."""
