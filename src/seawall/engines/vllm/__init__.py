"""All that is known of vLLM by its letters: flags and values by version, metrics, variables, messages, its HTTP.

A new version of vLLM is a change of this room. Forbidden here: deciding what to do about any of it.
"""
