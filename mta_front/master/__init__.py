"""The pre-forking master. Imports nothing that starts threads, hubs or connections."""
