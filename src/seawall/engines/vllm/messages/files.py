"""What is said of a model's own files when they cannot be read, or are not what they should be: weights, "
"configuration,
tokenizer, processor, template, code.

A table only; the texts are those of PyTorch, safetensors, Transformers, Jinja and vLLM.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

FILES: tuple[Sign, ...] = (
    Sign(
        "weights/other-format",
        r"SafetensorError: File does not contain tensor (?P<name>[\w.-]+)",
        "a weight file lacks the tensor {name}: the folder mixes two models or revisions, or its index is another's",
        "seawall pull --check compares every file with the lockfile; the files of one revision only in that folder "
        "(model.safetensors.index.json among them)",
        certain=False,
    ),
    Sign(
        "weights/corrupt",
        r"UnpicklingError: (?:invalid load key, '(?P<key>[^'\n]{1,6})'|pickle data was truncated)"
        r"|PytorchStreamReader failed[^\n]{0,80}|[Cc]entral directory[^\n]{0,40}(?:corrupt|not found)",
        "a weight file is none, or is cut off {key} (`v` begins a Git LFS pointer, `<` a page of HTML)",
        "seawall pull downloads and verifies every file; from git: git lfs pull; a proxy or mirror that answers "
        "with a page?",
        certain=False,
    ),
    Sign(
        "weights/other-format",
        r"Weights only load failed|weights_only[^\n]{0,60}(?:unsupported|not allowed|Unsupported global)",
        "a weight file (.bin, .pt) holds more than tensors, and PyTorch does not load that any more",
        "the model in safetensors (its other revision, or save_pretrained anew); only of a source that you trust",
        certain=False,
    ),
    Sign(
        "engine/unsupported-model",
        r"Unknown RoPE scaling type (?P<type>\w+)|(?:KeyError: |no attribute )'rope_(?:theta|parameters|scaling)'",
        "this vLLM reads another form of the model's position settings (rope_theta, rope_scaling, "
        "rope_parameters {type}) "
        "than its config.json, or the installed Transformers, has",
        "Transformers 5 and 4 write them differently: the Transformers that this vLLM asks for (below 5 up to "
        "0.18), or a "
        "newer vLLM image; else --hf-overrides with the form that it reads",
        certain=False,
    ),
    Sign(
        "weights/other-format",
        r"expected (?:mat1 and mat2|m1 and m2|scalar type|self and mat2)[^\n]{0,120}(?:dtype|but (?:got"
        r"|found))[^\n]{0,60}"
        r"|should have the same dtype[^\n]{0,60}|Input type \([^)\n]{1,60}\) and (?:weight|bias) type",
        "two number formats meet in one layer: parts of the model (a tower, an adapter, a head) are kept in "
        "another one",
        "--dtype bfloat16 (or the config.json's) for all; without --quantization, an adapter or a pooler to see "
        "which part "
        "it is; a newer vLLM image",
        weight=80,
        certain=False,
    ),
    Sign(
        "engine/chat-template",
        r"jinja2\.exceptions\.(?P<kind>TemplateSyntaxError|TemplateAssertionError"
        r"|UndefinedError)(?:: (?P<why>[^\n]{1,120}))?",
        "the chat template cannot be rendered: {kind} {why}",
        "one that fits this model and vLLM: --chat-template FILE (the model's newer revision, or vLLM's own in "
        "/vllm-workspace/examples); a newer image where it has a tag that is not known; clients that send a "
        "field otherwise "
        "(content, tools)",
        certain=False,
    ),
    Sign(
        "engine/multimodal",
        r"(?P<why>Encoder cache miss[^\n]{0,40}|Expected there to be \d+ prompt (?:placeholders|updates)[^\n]{0,60}"
        r"|Failed to apply prompt replacement[^\n]{0,60}"
        r"|Attempted to assign [^\n]{0,60}multimodal tokens"
        r"|Number of (?:image|multimodal|video|audio) (?:tokens|placeholders)[^\n]{0,60}(?:match|mismatch)"
        r"|[Ii]mage features and image tokens do not match[^\n]{0,40}|but (?:instead )?found \d+ prompt placeholders)",
        "what the model's processor makes of pictures or sound does not fit what vLLM reserves for it: {why}",
        "a Transformers and a vLLM that fit this model (its own image, newer first); --mm-processor-cache-gb 0 and "
        "--no-enable-prefix-caching tell whether it is a cache; an encoder that is split up: "
        "--disable-chunked-mm-input, a "
        "higher --max-num-batched-tokens; do clients put the placeholder into the text themselves? A fine-tuned "
        "checkpoint: config.json, preprocessor_config.json and tokenizer files of its base model",
        certain=False,
    ),
    Sign(
        "engine/chat-template",
        r"(?:supplied chat template|chat template string)[^\n]{0,40}\((?P<path>[^)\n]{1,200})\)[^\n]{0,60}"
        r"(?:path-like|looks like a file path|failed to be opened|doesn't exist)",
        "the chat template {path} is not in the container",
        "mount it (a ConfigMap) at that path; vLLM's own templates are in /vllm-workspace/examples",
    ),
    Sign(
        "engine/model-files",
        r"HarmonyError: error downloading or loading vocab|failed to download or load vocab",
        "gpt-oss' vocabulary (o200k_base.tiktoken) is not in the image and cannot be downloaded",
        "put o200k_base.tiktoken and cl100k_base.tiktoken into a volume and name its folder in "
        "TIKTOKEN_ENCODINGS_BASE, or let "
        "the Pod out to openaipublic.blob.core.windows.net (a proxy's CA has to be in the image's own store)",
    ),
    Sign(
        "engine/model-files",
        r"AttributeError: '(?P<kind>\w*Tokenizer\w*)' object has no attribute '(?P<lacks>\w+)'",
        "the tokenizer that was chosen ({kind}) lacks what asks it ({lacks}): --tokenizer-mode, or the release "
        "of Transformers, "
        "does not fit these files",
        "--tokenizer-mode auto (or hf) for a repository in Hugging Face's form; mistral, with --config-format "
        "and --load-format "
        "mistral, only where tekken.json and params.json are; else an image whose Transformers fits them",
        certain=False,
    ),
    Sign(
        "engine/model-files",
        r"(?P<why>No tokenizer file found[^\n]{0,80}|Can't load (?:tokenizer|image processor|feature extractor"
        r"|processor|video "
        r"processor) for[^\n]{0,80}|does not appear to have a file named (?!config\.json)[^\n]{0,60}"
        r"|Couldn't instantiate the "
        r"backend tokenizer|Tokenizer class \w+ does not exist[^\n]{0,40}"
        r"|data did not match any variant of untagged enum \w+"
        r"|Unrecognized (?:processing|image processor|video processor|feature extractor)[^\n]{0,60}"
        r"|Can't instantiate a processor"
        r"|requires the (?:tiktoken|sentencepiece|protobuf|blobfile|mistral_common) library[^\n]{0,40}"
        r"|chat template is required|tokenizer has no (?:chat_template|vocab)[^\n]{0,60})",
        "the model's tokenizer or processor cannot be read: {why}",
        "is the file there (tokenizer.json, preprocessor_config.json, params.json for Mistral)? One that a newer "
        "Transformers wrote needs a newer image; --tokenizer, --tokenizer-mode",
        certain=False,
    ),
    Sign(
        "engine/unsupported-model",
        r"GGUF model with architecture (?P<name>[\w.-]+) is not supported"
        r"|Architecture (?P<older>[\w.-]+) not supported",
        "the Transformers of this image cannot read a GGUF file of the architecture {name}{older}",
        "the model's safetensors (or an AWQ, FP8 checkpoint) instead of GGUF; REPO:QUANT with --hf-config-path and "
        "--tokenizer of the original model; or a newer image",
    ),
    Sign(
        "engine/unsupported-model",
        r"(?:Model architectures? \[[^\]]*\] (?:are|is) not supported|has no vLLM "
        r"implementation|model type `?[\w-]+`? but Transformers does not "
        r"recognize)[^\n]{0,160}",
        "this vLLM does not know the model's architecture",
        "pin a newer vLLM image",
    ),
    Sign(
        "engine/unsupported-model",
        r"Model architectures? \[[^\]]*\] failed to be inspected",
        "this vLLM cannot load its class for the model's architecture",
        "the first traceback above says why (a library that is missing or too old): pin a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/remote-code",
        r"contains custom code which must be executed|requires you to execute the (?:configuration|modeling"
        r"|model) file"
        r"|(?:pass the argument|set the option) `trust_remote_code=True`",
        "the model brings its own Python code, and vLLM was not told to trust it",
        "read that code; then add --trust-remote-code (engine.extraArgs) and pin the revision",
    ),
    Sign(
        "weights/other-format",
        r"Following weights were not initialized from checkpoint: \{[^}\n]{0,80}(?P<head>score|classifier"
        r"|classification_head)",
        "the checkpoint has no head of its own for what it is to do ({head}): it was trained to answer yes or no "
        "by its "
        "words, or to write",
        '--hf-overrides \'{{"architectures": ["...ForSequenceClassification"], "classifier_from_token": ["no", '
        '"yes"], '
        "\"is_original_qwen3_reranker\": true}}' as the model's card says (Qwen3's rerankers), or a checkpoint "
        "that was "
        "converted (-seq-cls); --convert embed for embeddings",
        certain=False,
    ),
    Sign(
        "weights/other-format",
        r"There is no module or parameter named '?(?P<name>[\w.]+)"
        r"|Following weights were not initialized from checkpoint"
        r"|Unexpected key\(s\) in state_dict",
        "the weight files are not those of the model that vLLM builds ({name})",
        "is the folder one model's, whole and unmixed? A newer vLLM may know the format; seawall pull verifies files",
        certain=False,
    ),
)
"""In this order: an earlier sign explains a later one."""
