"""`seawall prove`: continuous verified streams while one thing after another goes wrong. See docs/promises.md.

Forbidden here: knowing how a replica or the gateway is made; a verdict on a stream that was not
compared token by token.
"""
