"""`seawall prove`: continuous verified streams while one thing after another goes wrong. See docs/promises.md."""
