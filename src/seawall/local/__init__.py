"""Fleets as processes on this machine: `seawall up`. Acts on what `decide/` decides, by the wall clock."""
