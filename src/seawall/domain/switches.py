"""Mechanisms that can be switched off, so that `seawall prove --without NAME` can show what each is good for.

Those that the Fleet itself can switch off (resume, retries, time-outs, queue bounds) are not here. Nothing but a proof
may use these: the flags that carry them are hidden.
"""

GATEWAY = ("assembly", "await-return", "back-pressure", "stall-watch", "store", "token-proof")
"""assembly: long whole answers are put together from streams. await-return: requests wait for a fleet that somebody is
bringing back. back-pressure: stop reading from a replica while the client does not read. stall-watch: a replica that
owes an answer and is silent is looked at. store: several gateways share one. token-proof: an evicted replica comes back
when it gives a token; without, when its /health says 200."""
BATCH = ("spare-control", "write-ahead")
"""spare-control: how many lines run follows what interactive requests take. write-ahead: a result is durable before it
is counted."""
LOCAL = ("hand-over", "start-proof", "scaler-hold", "steady-clock")
"""hand-over: a new gateway listens before the old one stops. start-proof: no replica is published before it gave a
token. scaler-hold: nothing is scaled while the metrics cannot be read. steady-clock: time-outs
and pauses are counted by a clock that nobody can set."""
