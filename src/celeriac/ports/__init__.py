"""What a driver, pool or codec author reads; nothing else of celeriac is needed."""
