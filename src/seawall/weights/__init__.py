"""Weights that arrive whole: sources, verified download, lockfile. Talks to hubs and disks; decides no fleet."""
