"""What a replica runs: the simulated engine (`sim`), and what is known of the real ones. One folder per engine."""
