"""vLLM's entry in the list of drivers."""

from taskfleet.engines.base import Driver
from taskfleet.engines.vllm.arguments import COMMAND, arguments, environment, forbidden_arguments, forbidden_environment
from taskfleet.engines.vllm.client import VllmClient

VLLM = Driver(
    command=COMMAND,
    arguments=arguments,
    environment=environment,
    forbidden_arguments=forbidden_arguments,
    forbidden_environment=forbidden_environment,
    client=VllmClient,
)
