"""What only those who start or talk to vLLM know: how it is spelt. Nothing is decided here."""
