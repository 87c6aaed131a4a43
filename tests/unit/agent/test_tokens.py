"""Tokens, true and forged."""

import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.agent.tokens import Caller, TokenRefused, TokenVerifier
from taskfleet.api.agent import PoolIdentity, Trust
from tests.engine import issuer
from tests.engine.issuer import GATEWAY, OPERATOR, PEER, claims, curve_key, curve_token, jwks, rsa_key, token, trust, unsigned

POOL, OTHER_POOL = "pool-uid", "other-pool-uid"


def pool(uid: str = POOL, *, namespace: str = "finance", name: str = "tiny") -> PoolIdentity:
    return PoolIdentity(namespace=namespace, name=name, uid=uid)


@pytest.fixture
def verifier() -> TokenVerifier:
    return trusting(time.time)


def trusting(now: object) -> TokenVerifier:
    verifier = TokenVerifier(now)  # type: ignore[arg-type]
    verifier.use_trust(trust())
    verifier.use_pool(pool())
    return verifier


def test_callers_are_known_by_their_subject(verifier: TokenVerifier) -> None:
    assert verifier.caller(f"Bearer {token(POOL, PEER)}") is Caller.PEER
    assert verifier.caller(f"Bearer {token(POOL, GATEWAY)}") is Caller.GATEWAY
    assert verifier.caller(f"Bearer {token(POOL, OPERATOR)}") is Caller.OPERATOR
    assert verifier.caller(f"bearer {curve_token(POOL)}") is Caller.GATEWAY


def signed(content: dict[str, object], key: object, algorithm: str, kid: str | None) -> str:
    return jwt.encode(content, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})  # type: ignore[arg-type]


def confused() -> str:
    """Signed by HMAC with the public key as the secret: good where a verifier believes the header's algorithm."""
    public = jwt.utils.base64url_decode(jwks()["keys"][0]["n"])
    return signed(claims(POOL), public, "HS256", "rsa")


FORGED = {
    "another pool's": lambda: token(OTHER_POOL),
    "for the API server": lambda: token("https://kubernetes.default.svc"),
    "for this pool and another": lambda: token(POOL, aud=[POOL, OTHER_POOL]),
    "without audience": lambda: signed(
        {key: value for key, value in claims(POOL).items() if key != "aud"}, rsa_key("good"), "RS256", "rsa"
    ),
    "another pool's own account": lambda: token(POOL, "system:serviceaccount:finance:small"),
    "the same account's in another namespace": lambda: token(POOL, "system:serviceaccount:sales:tiny"),
    "our own account's for another pool": lambda: token(OTHER_POOL, PEER),
    "a tenant's": lambda: token(POOL, "system:serviceaccount:finance:default"),
    "without subject": lambda: signed({key: value for key, value in claims(POOL).items() if key != "sub"}, rsa_key("good"), "RS256", "rsa"),
    "expired": lambda: token(POOL, exp=int(time.time()) - 60),
    "without expiry": lambda: signed({key: value for key, value in claims(POOL).items() if key != "exp"}, rsa_key("good"), "RS256", "rsa"),
    "not valid yet": lambda: token(POOL, nbf=int(time.time()) + 600),
    "another issuer's": lambda: token(POOL, iss="https://evil.example"),
    "signed by another key": lambda: signed(claims(POOL), rsa_key("evil"), "RS256", "rsa"),
    "signed by another curve key": lambda: signed(claims(POOL), curve_key("evil"), "ES256", "curve"),
    "of an unknown key": lambda: signed(claims(POOL), rsa_key("good"), "RS256", "nobody"),
    "of no key": lambda: signed(claims(POOL), rsa_key("good"), "RS256", None),
    "of the other kind of key": lambda: signed(claims(POOL), curve_key("good"), "ES256", "rsa"),
    "another RSA algorithm": lambda: signed(claims(POOL), rsa_key("good"), "PS512", "rsa"),
    "unsigned": lambda: unsigned(claims(POOL), kid="rsa"),
    "signed with the public key as a secret": confused,
    "expiry that is text": lambda: signed({**claims(POOL), "exp": "tomorrow"}, rsa_key("good"), "RS256", "rsa"),
    "audience that is a map": lambda: signed({**claims(POOL), "aud": {POOL: True}}, rsa_key("good"), "RS256", "rsa"),
    "endless": lambda: "a" * 1_000_000,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_forged_token_is_refused(verifier: TokenVerifier, forge: object) -> None:
    with pytest.raises(TokenRefused):
        verifier.caller(f"Bearer {forge()}")  # type: ignore[operator]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic cm9ib3Q6eA==", "Token x", "Bearer a.b.c", "Bearer \udcff", "Bearer é"]
)
def test_header_without_a_token_is_refused(verifier: TokenVerifier, header: str | None) -> None:
    with pytest.raises(TokenRefused):
        verifier.caller(header)


def test_changed_signature_or_content_is_refused(verifier: TokenVerifier) -> None:
    head, content, signature = token(POOL).split(".")
    other_content = token(POOL, OPERATOR).split(".")[1]
    for forged in (f"{head}.{other_content}.{signature}", f"{head}.{content}.{signature[:-8]}AAAAAAAA", f"{head}.{content}."):
        with pytest.raises(TokenRefused):
            verifier.caller(f"Bearer {forged}")


def test_remembered_token_ends_with_its_expiry(verifier: TokenVerifier) -> None:
    now = time.time()
    clock = [now]
    remembering = trusting(lambda: clock[0])
    header = f"Bearer {token(POOL)}"
    assert remembering.caller(header) is Caller.GATEWAY
    clock[0] = now + 599
    assert remembering.caller(header) is Caller.GATEWAY
    clock[0] = now + 620
    with pytest.raises(TokenRefused, match="expired"):
        remembering.caller(header)


def test_remembered_token_ends_with_the_key_that_signed_it(verifier: TokenVerifier) -> None:
    header = f"Bearer {token(POOL)}"
    assert verifier.caller(header) is Caller.GATEWAY
    rotated = trust().jwks | {"keys": [key for key in jwks()["keys"] if key["kid"] != "rsa"]}
    verifier.use_trust(trust().model_copy(update={"jwks": rotated}))
    with pytest.raises(TokenRefused, match="unknown key"):
        verifier.caller(header)


def test_remembered_token_ends_with_another_audience(verifier: TokenVerifier) -> None:
    header = f"Bearer {token(POOL)}"
    assert verifier.caller(header) is Caller.GATEWAY
    verifier.use_pool(pool(OTHER_POOL))
    with pytest.raises(TokenRefused):
        verifier.caller(header)


def test_remembered_peer_ends_with_another_pool_of_the_same_uid(verifier: TokenVerifier) -> None:
    header = f"Bearer {token(POOL, PEER)}"
    assert verifier.caller(header) is Caller.PEER
    verifier.use_pool(pool(name="small"))
    with pytest.raises(TokenRefused, match="own account"):
        verifier.caller(header)


def test_operator_is_no_peer_whatever_a_pool_is_called() -> None:
    verifier = trusting(time.time)
    _, _, namespace, account = OPERATOR.split(":")
    verifier.use_pool(pool(namespace=namespace, name=account))
    assert verifier.caller(f"Bearer {token(POOL, OPERATOR)}") is Caller.OPERATOR


def test_nobody_is_trusted_before_keys_and_pool_are_known() -> None:
    verifier = TokenVerifier()
    with pytest.raises(TokenRefused, match="whom to trust"):
        verifier.caller(f"Bearer {token(POOL)}")
    verifier.use_trust(trust())
    with pytest.raises(TokenRefused, match="whom to trust"):
        verifier.caller(f"Bearer {token(POOL)}")


@pytest.mark.parametrize(
    "keys", [{}, {"keys": None}, {"keys": [1, {}, {"kid": 3, "kty": "RSA"}, {"kid": "rsa", "kty": "RSA", "n": "!", "e": "!"}]}]
)
def test_keys_that_make_no_sense_trust_nobody(keys: dict[str, object]) -> None:
    verifier = TokenVerifier()
    verifier.use_pool(pool())
    verifier.use_trust(Trust(issuer=issuer.ISSUER, jwks=keys, operator_subject=OPERATOR, gateway_subject=GATEWAY))
    with pytest.raises(TokenRefused):
        verifier.caller(f"Bearer {token(POOL)}")


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        trusting(time.time).caller(f"Bearer {text}")
