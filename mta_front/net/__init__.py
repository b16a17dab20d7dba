"""Where gevent lives: listening sockets, the pump of one session, outgoing connections."""
