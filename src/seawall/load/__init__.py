"""Open-loop load, honest measurement, and the proof that nothing is lost. Talks HTTP as any client would.

Forbidden here: knowing how a replica or the gateway is made; a number that was not measured in this run.
"""
