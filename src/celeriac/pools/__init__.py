"""Where tasks run: processes, threads, an event loop, or one thread."""
