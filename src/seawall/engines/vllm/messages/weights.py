"""What logs say of weights that are not there, may not be read, or are broken.

A table only; the texts are those of huggingface_hub, the clouds' clients, safetensors and vLLM.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.fetching import FETCHING
from seawall.engines.vllm.messages.sign import Sign

WEIGHTS: tuple[Sign, ...] = (
    Sign(
        "weights/offline",
        r"(?:OfflineModeIsEnabled|outgoing traffic has been disabled|offline mode is enabled)[^\n]{0,160}",
        "HF_HUB_OFFLINE is set and the files are not where vLLM looks",
        "serve the local path; did the loader Job finish? kubectl get jobs",
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:Error -?\d+ connecting to|[Ff]ailed to connect to|[Cc]annot connect to|[Cc]ould not connect to)"
        r"[^\n]{0,40}?(?P<peer>\b[a-zA-Z][\w.-]*:\d{2,5})\b(?![^\n]{0,80}(?:huggingface|hf\.co))",
        "a service that the engine needs cannot be reached: {peer}",
        "kubectl get svc,endpointslices for that name; does a NetworkPolicy let the engine out to it?",
        weight=80,
        certain=False,
    ),
    *FETCHING,
    Sign(
        "weights/unauthorized",
        r"NoCredentialsError|Unable to locate credentials|DefaultCredentialsError"
        r"|\((?:InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken)\)",
        "the bucket with the weights wants credentials, and the Pod's are missing or wrong",
        "a service account with the cloud's identity, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from a Secret",
    ),
    Sign(
        "weights/forbidden",
        r"An error occurred \((?:AccessDenied|Forbidden|403)\)[^\n]{0,160}"
        r"|does not have (?:storage\.objects\.\w+|serviceusage\.\S+) access[^\n]{0,120}",
        "the bucket with the weights refuses the Pod's account",
        "let the account list and read the bucket (s3:ListBucket, s3:GetObject; roles/storage.objectViewer)",
    ),
    Sign(
        "weights/forbidden",
        r"403 Client Error[^\n]{0,160}|Client error '403[^\n]{0,160}|not in the authorized list|awaiting a review|"
        r"403 Forbidden[^\n]{0,120}(?:gated|token|repo|url)",
        "the hub refuses this account (403): the licence is not accepted, or the token lacks the scope",
        "accept the licence on the model's page with the token's account",
    ),
    Sign(
        "weights/unauthorized",
        r"RepositoryNotFoundError: 401|401 Client Error[^\n]{0,160}\n\s{0,4}\n?Repository Not Found",
        "the hub knows no such model for this caller (401): its name is wrong, or it is private or gated and "
        "HF_TOKEN is "
        "missing or wrong",
        "open the model's page: is it there under that name? If it is private or gated: a token of an account "
        "that may "
        "read it in the Secret; better: seawall pull once, then serve offline",
        certain=False,
    ),
    Sign(
        "weights/unauthorized",
        r"(?:GatedRepoError|Cannot access gated repo|trying to access a gated "
        r"repo)[^\n]{0,160}|401 Client Error[^\n]{0,160}|"
        r"Client error '401[^\n]{0,160}",
        "the hub wants a token: the model is gated or private and HF_TOKEN is missing or wrong (401)",
        "put a token of an account that accepted the licence into the Secret; better: "
        "seawall pull once, then serve offline",
    ),
    Sign(
        "weights/not-found",
        r"(?:RepositoryNotFoundError|RevisionNotFoundError|(?<!Local)EntryNotFoundError)[^\n]{0,160}|"
        r"Client error '404|404 "
        r"Client Error[^\n]{0,160}",
        "the hub knows no such model, revision or file (404)",
        "check the name and --revision; a private repository answers 404 without a token",
    ),
    Sign(
        "weights/rate-limited",
        r"429 (?:Client Error|Too Many Requests)[^\n]{0,160}|You have been rate limited|HTTP " r"Error 429",
        "the hub limits the rate (429): many replicas download at once",
        "download once into a shared volume (seawall pull), start replicas from it with HF_HUB_OFFLINE=1",
    ),
    Sign(
        "weights/hub-unreachable",
        r"LocalEntryNotFoundError|couldn't connect to 'https?://|Network is unreachable|certificate verify failed|"
        r"(?:Max retries exceeded with url|ReadTimeout|ConnectTimeout|NameResolutionError|Temporary failure in name "
        r"resolution|ConnectionError(?=[^\n]{0,240}(?:http|huggingface|hf\.co|hub)))[^\n]{0,160}",
        "the hub cannot be reached from the Pod (timeout, DNS or a NetworkPolicy)",
        "kubectl exec into the Pod and resolve the host; serve from a local volume instead",
        certain=False,
    ),
    Sign(
        "weights/disk-full",
        r"(?:No space left on device|OSError: \[Errno 28\]|Disk quota exceeded)[^\n]{0,120}",
        "the disk that is written to is full",
        "a larger claim (1.2 x the weights) or emptyDir, ephemeral-storage requests; df -h in the Pod",
    ),
    Sign(
        "weights/corrupt",
        r"(?:SafetensorError(?!: File does not contain)|HeaderTooLarge|InvalidHeaderDeserialization"
        r"|MetadataIncompleteBuffer)[^\n]{0,120}",
        "a weight file is broken or only half written",
        "seawall pull verifies every hash and mends what is broken; from git: git lfs pull (a pointer in place "
        "of the file "
        "has a header that is too large)",
    ),
    Sign(
        "weights/no-model",
        r"(?:HFValidationError|Repo id must)[^\n]{0,160}'(?P<address>(?P<scheme>s3|gs|az|oci|pvc|hf|https?|file"
        r"|modelscope)://"
        r"[^'\n]{1,160})'",
        "{address} was looked for as the name of a model on the hub: this vLLM does not read {scheme}:// "
        "addresses, or not "
        "with these options",
        "s3://, gs:// and az:// need --load-format runai_streamer and its package in the image, and no "
        "HF_HUB_OFFLINE=1 "
        "(before 0.20); hf:// is the bare ORG/NAME; oci://, pvc:// and file:// are paths: mount them, give the folder",
    ),
    Sign(
        "weights/no-model",
        r"(?:No supported config format found|Can't load the (?:configuration|model) (?:of|for)"
        r"|Cannot find any model weights|HFValidationError: Repo id must|"
        r"does not appear to have a file named config\.json|Invalid repository ID or local "
        r"directory specified|is not a local folder and is not a valid model "
        r"identifier|Unrecognized model in \S+|Incorrect path_or_model_id)[^\n]{0,160}",
        "there is no model at the path that vLLM was given",
        "did the loader Job finish, and is the mount the one that vLLM reads? kubectl exec ls on the path",
    ),
    Sign(
        "weights/no-model",
        r"No such file or directory: '(?P<path>/(?:mnt/(?:models?|pvc)|models?|opt/ml/model"
        r"|weights)(?:/[^'\n]{0,160})?)'",
        "there is nothing at {path}, where the model should be",
        "is the volume mounted there, and did what fills it run before? KServe's storage-initializer is put in "
        "by its webhook "
        "only: storageUri set, its controller up, the namespace not excluded; kubectl get pod -o yaml shows "
        "initContainers",
        weight=88,
        certain=False,
    ),
)
"""In this order: an earlier sign explains a later one."""
