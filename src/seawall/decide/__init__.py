"""Decisions as values: what to do, and why.

Forbidden here: awaiting, clocks, files, environment variables, logs, global chance.
"""
