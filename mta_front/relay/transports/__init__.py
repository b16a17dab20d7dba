"""How messages leave: one module for each kind of next hop."""
