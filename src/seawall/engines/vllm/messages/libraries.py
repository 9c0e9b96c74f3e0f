"""What is said by packages and libraries of an image that do not go together: Python's, the loader's, CUDA's.

A table only; the texts are those of Python, ld.so, Transformers and vLLM.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

LIBRARIES: tuple[Sign, ...] = (
    Sign(
        "engine/import",
        r"version `(?P<version>GLIBC_[\d.]+)' not found",
        "a compiled part wants a newer C library ({version}) than the image's Linux has",
        "vLLM's own image, or a base of the age of Ubuntu 22.04 or later under your own; a wheel for an older one "
        "(manylinux)",
    ),
    Sign(
        "engine/import",
        r"version `(?P<version>(?:GLIBCXX|CXXABI|GOMP)_[\d.]+)' not found",
        "a library that is found first is older than what was built against it ({version}): mostly another libstdc++ "
        "(conda's, or a base image's)",
        "take other folders out of LD_LIBRARY_PATH, or update that library (conda: libstdcxx-ng; apt: "
        "libstdc++6); vLLM's "
        "own image unchanged has one that fits",
        certain=False,
    ),
    Sign(
        "engine/import",
        r"was removed in the NumPy 2\.0 release|numpy\.core\.multiarray failed to import"
        r"|module that was compiled using NumPy 1|numpy\.dtype size changed",
        "a package was built or written for NumPy 1, and NumPy 2 is installed (or the other way round)",
        "that package newer, or numpy below 2 in an image of your own; nothing installed over vLLM's own image "
        "at start",
        certain=False,
    ),
    Sign(
        "engine/import",
        r"(?P<library>lib(?:GL|EGL|glib-2\.0|gthread-2\.0|SM|Xext|sndfile|av\w+"
        r"|sox)\.so[.\d]*): cannot open shared object",
        "the image lacks {library}, which a package for pictures or sound wants",
        "opencv-python-headless in place of opencv-python; or apt-get install libgl1 libglib2.0-0 (pictures), "
        "libsndfile1 "
        "ffmpeg (sound) in an image of your own",
    ),
    Sign(
        "engine/import",
        r"pthread_create failed: Invalid argument|symbol lookup error: [^\n]{1,160}|relocation error: [^\n]{1,120}"
        r"|libc\.so\.6: version|error while loading shared libraries: [^\n]{1,120}",
        "the program is given system libraries that are not its own: a folder of the host's, or of another "
        "image, stands "
        "first on LD_LIBRARY_PATH",
        "take that folder (/usr/lib of the host, conda's lib) out of LD_LIBRARY_PATH and mount only the driver's "
        "libraries, or the host's root elsewhere (NVIDIA: /driver-root); vLLM's own image unchanged",
        certain=False,
    ),
    Sign(
        "engine/permission",
        r"failed to map segment from shared object",
        "a compiled file lies on a mount that may execute nothing (noexec), or memory is out",
        "TMPDIR, TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR and VLLM_CACHE_ROOT in a volume without noexec (an "
        "emptyDir "
        "that is none in memory)",
        certain=False,
    ),
    Sign(
        "engine/import",
        r"(?P<library>libnccl\.so[.\d]*)(?:: cannot open shared object[^\n]{0,40}"
        r"|: undefined symbol: (?P<symbol>\w+))",
        "NCCL is not found, or another one than PyTorch's is found first ({library} {symbol})",
        "take other CUDA and NCCL folders out of LD_LIBRARY_PATH and LD_PRELOAD; VLLM_NCCL_SO_PATH names the library "
        "(nvidia/nccl/lib/libnccl.so.2 beside torch); the nvidia-nccl package that this PyTorch asks for",
        certain=False,
    ),
    Sign(
        "engine/build",
        r"'_OpNamespace' '(?P<space>\w+)' object has no attribute '(?P<op>\w+)'"
        r"|No module named 'vllm\._(?P<module>\w+)'"
        r"|operator (?P<operator>[\w:]+) does not exist|compiled with different CUDA major versions"
        r"|Failed to import from vllm\._C"
        r"|libtorch\w*\.so[^\n]{0,60}undefined symbol|\bABI\b[^\n]{0,60}mismatch",
        "vLLM's compiled part was not built for what is installed beside it: {space} {op}{module}{operator} is "
        "missing",
        "use vLLM's own image unchanged; a wheel wants the very torch, CUDA and GPU list that it was built with, and "
        "nothing installed over it at start",
    ),
    Sign(
        "engine/import",
        r"requires?:? `?(?P<package>(?!Python\b)[A-Za-z][\w.-]{1,40})`? ?\(?(?P<version>(?:>=|==|<=|<|>"
        r"|~=) ?\d+\.\d[\w.,<>=]*)"
        r"|(?P<needed>[a-z][\w-]{1,40}(?:[<>=!~]=?[\w.]+,?)+) is required for a normal functioning",
        "a package of the image has another version than is asked for: {package} {version}{needed}",
        "an image that brings it (mostly a newer vLLM; for transformers above all), or install "
        "{package}{version}{needed} in "
        "a build of your own",
    ),
    Sign(
        "engine/import",
        r"Please install vllm\[(?P<extra>[\w-]+)\]",
        "the image lacks what vLLM needs for this kind of input (vllm[{extra}])",
        "an image of your own: FROM this one, pip install what vllm[{extra}] lists (audio: librosa, "
        "soundfile), of the same "
        "version",
        weight=70,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/import",
        r"ImportError: \S{0,200}?(?:site|dist)-packages/(?P<package>(?!vllm/)[A-Za-z][\w-]*)[/.]"
        r"[^\n]{0,160}undefined symbol",
        "the compiled part of {package} was not built for the PyTorch of this image",
        "the {package} that was released for this very vLLM and PyTorch (its notes name the pair, or its own image "
        "brings "
        "both); without {package} the engine starts: take out the option that asks for it",
    ),
    Sign(
        "engine/import",
        r"ImportError: (?P<library>lib(?:cudart|cublas\w*|cudnn\w*|nvrtc|nvJitLink|cusparse\w*"
        r"|nccl)\.so\.(?P<major>\d+)): "
        r"cannot open shared object file",
        "what is installed was built for CUDA {major}, and the image has no {library}: wheels of two CUDA "
        "releases are mixed, or a package for NVIDIA stands in an image for another vendor",
        "one CUDA for all: an image whose tag names CUDA {major} (-cu129, -cu130), or vLLM, PyTorch and what is "
        "beside "
        "them installed from one index of CUDA {major} wheels",
        certain=False,
    ),
    Sign(
        "engine/import",
        r"(?:ModuleNotFoundError: No module named|ImportError: [^\n]{0,160}(?:undefined symbol"
        r"|cannot open shared object file|version `[^'\n]*' not found))[^\n]{0,120}",
        "a Python package of the image is missing or was built against another version",
        "use vLLM's own image unchanged, or install the package in a build of your own (not at start)",
    ),
    Sign(
        "engine/import",
        r"(?:OSError|AttributeError|RuntimeError): (?P<library>[^\s:]{0,160}lib[\w.+-]+\.so[\d.]*): "
        r"(?P<why>undefined symbol: \w+|cannot open shared object file)",
        "a library that is loaded by name is not there, or is another one than was built against: {library} ({why})",
        "is its package installed, and is LD_LIBRARY_PATH (LD_PRELOAD) without other folders of CUDA? vLLM's own "
        "image "
        "unchanged has what fits",
        certain=False,
    ),
)
"""In this order: an earlier sign explains a later one."""
