"""The worker: claims deliveries, has a pool run them, settles what became of them."""
