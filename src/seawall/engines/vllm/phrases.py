"""Sentences by which an engine that dies or stops is known: what it logs, and what it answers with status 500."""

from __future__ import annotations

DEAD = "EngineDeadError"
"""The exception's name, in logs and in some answers."""
DEAD_ANSWER = "EngineCore encountered an issue"
"""How the message of that exception begins, which is what clients are answered."""
DEAD_MESSAGE = f"{DEAD_ANSWER}. See stack trace (above) for the root cause."
STOPPING_ANSWER = "cannot schedule new futures after shutdown"
"""What a request is answered whose text arrives while the server drains: its tokenizer's threads are gone."""
