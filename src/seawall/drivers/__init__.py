"""One speaker of each thing outside: Kubernetes, Prometheus, hubs, processes, the cache.

Forbidden here: deciding what an answer means.
"""
