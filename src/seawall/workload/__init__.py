"""Loads: arrivals and lengths from a seeded generator, and public traces.

Forbidden here: clocks, files, global chance.
"""
