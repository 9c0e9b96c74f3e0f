"""Anybody's gateway under the faults of `seawall prove`: `--target NAME`, a URL or a command.

The engines, the clients, the faults and the verdict are the same for every target. An adapter is one small file: where
its program comes from, its configuration, how its list of engines is changed. Nothing of a target enters this
repository: programs go into the cache folder.

Forbidden here: a bound, a time-out or a verdict of one target's own.
"""
