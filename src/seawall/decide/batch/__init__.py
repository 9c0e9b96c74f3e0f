"""What the offline lane decides: which batch is next, how many lines may run, and when a batch will be done."""
