"""What vLLM says of its own arguments, before it loads anything.

A table only; the texts are those of vLLM and argparse.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

ARGUMENTS: tuple[Sign, ...] = (
    Sign(
        "engine/unknown-flag",
        r"(?:unrecognized arguments|no such option): *(?P<flag>\S[^\n]{0,120})",
        "this vLLM does not know the argument {flag}: it exits before it loads anything",
        "seawall lint on the manifest names the replacement; remove the option or pin the image that has it",
    ),
    Sign(
        "engine/unknown-flag",
        r"EngineArgs(?:\.__init__)?\(\) got an unexpected keyword argument '(?P<flag>\w+)'",
        "this vLLM has no option {flag}",
        "what replaced it, in the engine's arguments (older ones of the model's configuration go into "
        "hf_overrides); or the "
        "vLLM that still has it",
    ),
    Sign(
        "engine/bad-argument",
        r"(?:vllm serve|api_server\.py|launcher\.py): error: (?P<why>[^\n]{5,200})|"
        r"^[\w./ ()=\[\]-]{1,80}: error: (?P<arg>(?:argument|the following arguments|ambiguous option)[^\n]{5,200})",
        "vLLM refuses its arguments: {why}{arg}",
        "correct the argument; `vllm serve --help=all` lists them",
    ),
    Sign(
        "engine/unknown-parser",
        r"(?P<why>invalid tool call parser: [\w.-]+|Reasoning parser '?[\w.-]+'? not found)",
        "vLLM has no such parser: {why}",
        "use a name of the list in the message (seawall lint knows them by version)",
    ),
    Sign(
        "engine/unknown-parser",
        r"--enable-auto-tool-choice requires --tool-call-parser",
        "--enable-auto-tool-choice is set without the parser that reads the model's calls",
        "--tool-call-parser NAME of the model's family beside it (hermes, llama3_json, mistral, qwen3_coder, "
        "openai ...; `vllm serve --help=tool-call-parser` lists them), or leave --enable-auto-tool-choice out",
    ),
    Sign(
        "engine/service-links",
        r"VLLM_PORT '(?P<port>[^']*)' appears to be a URI",
        "a Service named vllm sets VLLM_PORT={port} in the Pod, and vLLM takes it for its own port",
        "set enableServiceLinks: false in the Pod's spec (seawall lint --fix does)",
    ),
    Sign(
        "engine/max-len",
        r"max_model_len \(?(?P<len>\d+)\)? is (?:greater|larger) than the (?:derived|model's)[^\n]{0,160}",
        "max_model_len {len} is longer than the model was made for",
        "lower --max-model-len (spec.traffic.maxContext), or use a model with a longer context",
    ),
)
"""In this order: an earlier sign explains a later one."""
