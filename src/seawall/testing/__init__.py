"""What we test with, and ship for your tests. Nothing in src imports it."""
