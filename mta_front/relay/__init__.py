"""From the queue to the next hop."""
