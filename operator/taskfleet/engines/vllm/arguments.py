"""How vLLM is started: arguments and environment, and what an administrator may not set beside them. Pure.

Read in vLLM 0.32.0's source and run on its CPU build. The defaults are traps: one adapter per batch, no more in memory than in a batch, rank 16.
"""

from collections.abc import Sequence

from taskfleet.engines.settings import EngineSettings

# `vllm serve` asks for the version of a package named vllm, which builds for CPU don't have under that name.
COMMAND = ("python3", "-m", "vllm.entrypoints.openai.api_server")

# What vLLM's --max-lora-rank accepts (0.32.0, config/lora.py).
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)

_OURS = (
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--uds",  # a socket instead of host and port
    "--enable-lora",
    "--no-enable-lora",
    "--max-loras",
    "--max-cpu-loras",
    "--max-lora-rank",
    "--max-model-len",  # spec.engine.maxModelLength says it
    "--load-format",
    "--lora-modules",  # adapters are the agent's, and their names are content-addressed
    "--default-mm-loras",
    "--allowed-media-domains",  # see _NO_MEDIA_DOMAIN
)
_UNSAFE = (
    "--config",  # a file that may set everything above
    "--api-key",  # the agent asks without; it is the pod's door
    "--root-path",  # moves the routes that the agent asks
    "--ssl-keyfile",
    "--ssl-certfile",
    "--ssl-ca-certs",
    "--api-server-count",  # more than one refuses runtime loading of adapters
    "--headless",
    "--grpc",  # another door, and without the routes that the agent asks
    "--grpc-port",
    "--allowed-local-media-path",  # reads files of the pod for whoever asks
)
_CODE = (
    "--trust-remote-code",
    "--middleware",
    "--tool-parser-plugin",
    "--reasoning-parser-plugin",
    "--io-processor-plugin",
    "--logits-processors",
    "--worker-cls",
    "--worker-extension-cls",
    "--scheduler-cls",
    "--model-class-overrides",
)
# Without a list of domains vLLM fetches any address that stands in a message's image_url, follows redirects, and so reaches what the pod reaches (0.32.0,
# multimodal/media/connector.py). No host can have this name (RFC 2606); media come inside the request, as data: URLs.
_NO_MEDIA_DOMAIN = "none.invalid"
# What an administrator may set otherwise. Requests are counted by agent and gateway; an access log would have a line for each probe, several a second.
DEFAULTS = ("--disable-uvicorn-access-log",)

FORBIDDEN_ARGUMENTS = _OURS + _UNSAFE + _CODE

FORBIDDEN_ENVIRONMENT = (
    "GLOO_SOCKET_IFNAME",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",  # unpickles what it is sent
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "VLLM_HOST_IP",
    "VLLM_LORA_RESOLVER_CACHE_DIR",  # with it any name that is a path is served
    "VLLM_LORA_RESOLVER_HF_REPO_LIST",
    "VLLM_PLUGINS",
    "VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES",
    "VLLM_SERVER_DEV_MODE",  # opens routes that reset and inspect the engine
)


def arguments(settings: EngineSettings) -> tuple[str, ...]:
    """The arguments after `COMMAND`. Ours stand last, and argparse takes the last of two. Raises ValueError for a rank that vLLM has no setting for."""
    ours = [
        f"--model={settings.model_path}",
        f"--served-model-name={settings.served_base_name}",
        "--host=127.0.0.1",
        f"--port={settings.port}",
        # The other formats that vLLM would choose from hold pickles.
        "--load-format=safetensors",
        f"--allowed-media-domains={_NO_MEDIA_DOMAIN}",
    ]
    if settings.max_model_length is not None:
        ours.append(f"--max-model-len={settings.max_model_length}")
    if settings.enable_lora:
        ours += [
            "--enable-lora",
            f"--max-loras={settings.max_loras}",
            f"--max-cpu-loras={max(settings.max_cpu_loras, settings.max_loras)}",
            f"--max-lora-rank={_accepted_rank(settings.max_lora_rank)}",
        ]
    return (*DEFAULTS, *settings.extra_args, *ours)


def environment(settings: EngineSettings) -> dict[str, str]:
    """Environment variables that go with `arguments`."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        # Without it a dozen internal ports listen on the pod's address, in spite of --host (VLLM_HOST_IP leaves most of them there).
        "GLOO_SOCKET_IFNAME": "lo",
    }
    if not settings.enable_lora:
        return offline
    return {
        **offline,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        # Read by the newer frontend only, and demanded by it.
        "VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES": settings.adapter_prefix,
    }


def forbidden_arguments(extra: Sequence[str]) -> list[str]:
    """Those of an administrator's arguments that may not be set, as written there.

    vLLM's parser takes underscores for dashes and, like argparse, any abbreviation; so an argument is refused too when it could be the beginning of a forbidden one. That refuses
    a few harmless abbreviations: written out they pass.
    """
    return [argument for argument in extra if argument.startswith("--") and _could_be_forbidden(argument)]


def forbidden_environment(names: Sequence[str]) -> list[str]:
    """Those names of environment variables that an administrator may not set."""
    return [name for name in names if name in FORBIDDEN_ENVIRONMENT]


def _could_be_forbidden(argument: str) -> bool:
    # `--structured-outputs-config.backend=x` sets one key of a JSON argument: the part before the dot is the argument's name.
    name = argument.partition("=")[0].partition(".")[0].replace("_", "-")
    return any(forbidden.startswith(name) for forbidden in FORBIDDEN_ARGUMENTS)


def _accepted_rank(rank: int) -> int:
    for accepted in LORA_RANKS:
        if rank <= accepted:
            return accepted
    raise ValueError(f"vLLM accepts adapters up to rank {LORA_RANKS[-1]}, not {rank}")
