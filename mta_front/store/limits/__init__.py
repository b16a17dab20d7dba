"""Limits that the whole fleet shares. `rules` what is limited, `shared.Limits` what a worker has, `admin` for people.

This file imports nothing: the settings need `rules`, and the master that reads them must not import gevent.
"""
