"""The simulated engine: a vLLM 0.32 server without a model, a product for tests, proofs and predictions.

It answers the same routes with the same JSON and SSE shapes, queues, batches, caches prefixes, preempts, drains
and dies as the real one was measured to (`tests/contract` holds both to one suite). Its text is a pure function of
the token ids before it, so whoever watches a stream knows exactly what must come next. Forbidden: being used
where a real engine was asked for; nothing falls back to it silently.
"""
