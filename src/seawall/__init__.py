"""Seawall: vLLM on Kubernetes that never drops a request."""

__version__ = "0.1.0"
