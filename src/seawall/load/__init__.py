"""Open-loop load and honest measurement. Talks HTTP as any client would.

Forbidden here: knowing how a replica or the gateway is made; a number that was not measured in this run.
"""
