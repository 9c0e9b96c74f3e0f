"""The rules, one file per theme. Each yields findings for the `Manifests` that were read.

Forbidden here: printing, reading files, and asking another rule.
"""
