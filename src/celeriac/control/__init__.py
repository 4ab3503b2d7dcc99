"""Remote control of workers: commands over the bus, and replies."""
