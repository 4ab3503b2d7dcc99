"""A task that takes its time, on RabbitMQ."""
