"""SMTP without I/O: bytes in, events out; replies in, bytes out. Imports nothing above itself and no socket."""
