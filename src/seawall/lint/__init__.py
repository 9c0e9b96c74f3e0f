"""Findings in anybody's vLLM manifests.

Forbidden here: a cluster, the network, and changing a file that was not asked for.
"""
