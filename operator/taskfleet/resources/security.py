"""Security contexts that Pod Security `restricted` asks for, and a little more. Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""

from taskfleet.resources.metadata import Json

# No image needs an entry for it in /etc/passwd: vLLM was run with this one.
USER_ID = 10001


def pod_security() -> Json:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        # Walking through a base model's files at each start takes minutes on some volumes.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Json:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
