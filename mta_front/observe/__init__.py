"""What people see: events, metrics, logs, the admin port."""
