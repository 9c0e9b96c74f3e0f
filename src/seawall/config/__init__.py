"""Specs on disk: YAML -> `Fleet`, with path, value and cure in every message.

Forbidden here: planning, and talking to anything.
"""
