"""TLS as bytes: contexts of certificates, and channels that turn ciphertext into plaintext. No sockets, no gevent.

Importing this package loads nothing; `options` needs the standard library only, so the master may read it.
"""
