"""Whether a replica answers as its weights do: what is known of right answers, how far others may be from them, and
what follows when they are not. docs/reference/truth.md tells it for users."""
