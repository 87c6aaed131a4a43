"""A cluster's token issuer in miniature: signs tokens as the API server's TokenRequest does, and publishes the keys."""

import base64
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from taskfleet.api.agent import Trust

ISSUER = "https://kubernetes.default.svc"
OPERATOR = "system:serviceaccount:taskfleet-system:taskfleet-operator"
GATEWAY = "system:serviceaccount:taskfleet-system:taskfleet-gateway"
PEER = "system:serviceaccount:finance:tiny"  # the account of the pool `tiny`


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key that is made once per run: making one takes a tenth of a second."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def curve_key(name: str) -> ec.EllipticCurvePrivateKey:
    del name
    return ec.generate_private_key(ec.SECP256R1())


def jwks() -> dict[str, Any]:
    """The published keys: one of each kind, and one of a kind that nobody here knows."""
    rsa_entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key("good").public_key()))
    curve_entry = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(curve_key("good").public_key()))
    return {
        "keys": [
            {**rsa_entry, "kid": "rsa", "use": "sig", "alg": "RS256"},
            {**curve_entry, "kid": "curve", "use": "sig", "alg": "ES256"},
            {"kid": "unknown", "kty": "OKP", "crv": "Ed25519", "x": "AAAA", "use": "sig"},
        ]
    }


def trust() -> Trust:
    return Trust(issuer=ISSUER, jwks=jwks(), operator_subject=OPERATOR, gateway_subject=GATEWAY)


def claims(audience: str, subject: str = GATEWAY, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": [audience], "sub": subject, "iat": now, "nbf": now, "exp": now + 600, **changes}


def token(audience: str, subject: str = GATEWAY, **changes: Any) -> str:
    """A token as the API server would mint it, with whatever claims a test wants otherwise."""
    return jwt.encode(claims(audience, subject, **changes), rsa_key("good"), algorithm="RS256", headers={"kid": "rsa"})


def curve_token(audience: str, subject: str = GATEWAY) -> str:
    return jwt.encode(claims(audience, subject), curve_key("good"), algorithm="ES256", headers={"kid": "curve"})


def unsigned(content: dict[str, Any], **header: str) -> str:
    """A token with `alg: none`."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT', **header})}.{part(content)}."
