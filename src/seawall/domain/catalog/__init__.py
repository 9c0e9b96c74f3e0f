"""Dated facts about the world: GPUs, models, storage, prices. Plain data, no I/O, nothing decided here."""
