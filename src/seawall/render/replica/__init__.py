"""The Pods that run one vLLM server each: workload, container, placement, volumes, weights, probes."""
