"""Model shapes: what a published `config.json`, of any family, says of layers, heads, experts and quantization.

`shapes.config.resolve` finds a fleet's model and returns `domain.model.ModelConfig`, the form that the planner reads.
Forbidden here: memory arithmetic (that is `decide/plan`), and a guess that does not say that it is one.
"""
