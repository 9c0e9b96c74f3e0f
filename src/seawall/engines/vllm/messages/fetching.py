"""What fetches weights says when it cannot: the hub's Xet client, curl and wget, the clouds' own tools, file systems.

A table only. Loaders, init containers and engines that download at start all write these.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

FETCHING: tuple[Sign, ...] = (
    Sign(
        "weights/corrupt",
        r"Consistency check failed: file should be of size (?P<wanted>\d+) but has size (?P<has>\d+)",
        "a file of the weights came down in part only: {has} of {wanted} bytes",
        "delete it and download again (seawall pull checks every file and goes on where it broke off); if it "
        "comes back: a "
        "proxy that cuts or answers itself, a full disk, a mirror (HF_ENDPOINT) that is behind",
    ),
    Sign(
        "weights/hub-unreachable",
        r"IncompleteRead\(|peer closed connection without sending complete|ChunkedEncodingError|Connection broken: ",
        "the download breaks off before its end, again and again",
        "a proxy or firewall that cuts long connections? seawall pull goes on where it broke off; "
        "HF_HUB_DISABLE_XET=1, fewer "
        "workers, or a mirror inside (HF_ENDPOINT)",
        certain=False,
    ),
    Sign(
        "weights/hub-unreachable",
        r"(?P<code>5\d\d) Server Error[^\n]{0,60}(?:hugging|hf|hub|cdn|modelscope)"
        r"|HTTP status server error \((?P<xet>5\d\d)",
        "the hub, or a proxy or mirror before it, fails by itself ({code}{xet})",
        "again later (status.huggingface.co); replicas should not depend on it: seawall pull once and serve from "
        "a volume; "
        "with HF_ENDPOINT or a proxy: its own log; HF_HUB_DISABLE_XET=1",
        certain=False,
    ),
    Sign(
        "weights/corrupt",
        r"416 Client Error|Requested Range Not Satisfiable",
        "a download that broke off is to go on where there is nothing more: what is left of it does not fit the file",
        "delete the *.incomplete files (and that file) and fetch again: seawall pull does; --to a folder of its own",
        certain=False,
    ),
    Sign(
        "weights/token-form",
        r"(?:Illegal|Invalid) header value[^\n]{0,60}|Invalid (?:leading|trailing) whitespace[^\n]{0,60}header value"
        r"|header value[^\n]{0,40}contains? (?:a )?(?:newline|line break)",
        "the hub's token holds a line break or a blank: it was put into the Secret with its end of line",
        "make the Secret from the bare token: kubectl create secret generic NAME --from-literal=token=hf_... "
        "(printf, not "
        "echo, before base64)",
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?P<peer>[Rr]edis|etcd|NATS|nats|[Kk]afka|Postgres|postgres)[^\n]{0,200}(?:CERTIFICATE_VERIFY_FAILED"
        r"|certificate verify failed|SSL_connect failed|unknown authority|self[- ]signed)[^\n]{0,60}",
        "the certificate of {peer} is not trusted in the Pod",
        "mount the CA that signed it and name it where this program reads it (Ray: RAY_REDIS_CA_CERT; others: a CA "
        "bundle in SSL_CERT_FILE); the name in the address has to be one of the certificate's",
        certain=False,
        any_level=True,
    ),
    Sign(
        "weights/not-found",
        r"Cache directory not found: (?P<path>[^\s.,]+)",
        "the folder of the hub's cache is not there: {path}",
        "mount the volume there, or make the folder before the start (mkdir in an init container); HF_HOME or "
        "HF_HUB_CACHE have to name what is mounted, the same in loader and engine",
        certain=False,
    ),
    Sign(
        "weights/hub-unreachable",
        r"(?:CERTIFICATE_VERIFY_FAILED|certificate verify failed|self[- ]signed certificate|curl: \((?:35"
        r"|60)\))[^\n]{0,120}",
        "the hub's certificate is not trusted in the Pod: a proxy puts its own in, or a private CA's bundle hides the "
        "public roots",
        "mount a bundle with both and name it in SSL_CERT_FILE and REQUESTS_CA_BUNDLE, or fetch from a mirror inside "
        "(HF_ENDPOINT) or a volume",
        certain=False,
    ),
    Sign(
        "weights/hub-unreachable",
        r"(?:CAS service error(?![^\n]*(?:No space left|os error 28))|xethub\.hf\.co|hf_xet)[^\n]{0,160}",
        "the hub's storage for large files (Xet, *.xethub.hf.co) cannot be reached from the Pod",
        "let the Pod out to *.xethub.hf.co, too, or HF_HUB_DISABLE_XET=1; better: seawall pull once and serve "
        "from a volume",
        certain=False,
    ),
    Sign(
        "weights/hub-unreachable",
        r"(?:[Cc]ould not resolve host:?|unable to resolve host address|bad address|getaddrinfo (?:failed|ENOTFOUND))"
        r" ?['\"]?(?P<host>[\w.-]*)|ProxyError[^\n]{0,160}|Unable to connect to proxy"
        r"|curl: \((?:7|28|56)\)[^\n]{0,120}|wget: (?:can't connect|download timed out)[^\n]{0,80}",
        "what fetches the weights does not reach their host {host}",
        "DNS, proxy (HTTPS_PROXY, NO_PROXY) and egress policy of the Pod: kubectl exec, or run the same image, "
        "and resolve "
        "the host",
        certain=False,
    ),
    Sign(
        "weights/unauthorized",
        r"requested URL returned error: 401|401 Anonymous caller|ERROR 401: Unauthorized",
        "what fetches the weights is not allowed in: a token or account is missing (401)",
        "a token in a Secret, or the cloud's identity on the Pod's service account",
    ),
    Sign(
        "weights/forbidden",
        r"requested URL returned error: 403|AccessDeniedException: 403|ERROR 403: Forbidden"
        r"|AuthorizationPermissionMismatch"
        r"|AuthorizationFailure",
        "what fetches the weights may not read them (403)",
        "give the account the right to list and read them; accept the model's licence",
    ),
    Sign(
        "weights/not-found",
        r"requested URL returned error: 404|ERROR 404: Not Found|No model found in (?P<where>\S{1,160})"
        r"|(?:No URLs matched|CommandException: One or more URLs matched no objects)",
        "there is nothing where the weights should be fetched from (404) {where}",
        "the address's spelling, the folder's last slash, the revision",
    ),
    Sign(
        "weights/storage",
        r"\[Errno (?:5|37|38|107|110|116|121)\][^\n]{0,160}|Stale file handle|Transport endpoint is not connected"
        r"|No locks available|Input/output error[^\n]{0,80}",
        "the storage under the weights fails while it is read: a mount that was lost, locks that it does not "
        "have, or a "
        "broken disk",
        "delete the Pod so that it mounts anew; the storage driver's log on that node; file systems without "
        "locks (NFS v3, "
        "bucket mounts): HF_HUB_OFFLINE=1 and a local path",
        certain=False,
    ),
)
"""Before the hub's own answers in `weights.py`."""
