"""Artifacts from a real S3 server: signed, in pages, resumed, and with the store's own words where it refuses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import fetching, lora, s3
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.content_manifest import digest_of
from taskfleet.artifacts.errors import (
    ArtifactError,
    ArtifactInvalid,
    ArtifactNotFound,
    CredentialsMissing,
    DigestMismatch,
    SourceNotAllowed,
    SourceUnavailable,
)
from taskfleet.artifacts.listing import Inquiry, Order, RemoteFile
from taskfleet.artifacts.store_credentials import S3Credentials
from tests.sources.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server, running_s3_server
from tests.unit.artifacts.local_server import server as local_server
from tests.unit.artifacts.model_files import write_adapter, write_base

LIMITS = FetchLimits(max_bytes=10_000_000, max_files=64, seconds=60)
DOMAIN = "s3.stores.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3"), "models", "dotted.models", virtual_domain=DOMAIN) as running:
        yield running


def entry(server: S3Server, **fields: Any) -> dict[str, Any]:
    plain = {"endpoint": server.endpoint, "region": REGION, "accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}
    return {**plain, **fields}


@pytest.fixture
def access(server: S3Server, tmp_path: Path) -> Access:
    folder = tmp_path / "credentials"
    folder.mkdir()
    port = server.host.rpartition(":")[2]
    entries = {
        "store": entry(server),
        "virtual": entry(server, endpoint=f"http://{DOMAIN}:{port}", addressing="virtual"),
        "wrong-secret": entry(server, secretAccessKey="wrong"),
        "wrong-key": entry(server, accessKeyId="AKIDNOBODY"),
        "wrong-region": entry(server, region="us-west-1"),
        "anonymous": {"endpoint": server.endpoint, "region": REGION},
    }
    for name, content in entries.items():
        (folder / name).write_text(json.dumps(content))
    return Access(
        credentials_directory=folder,
        insecure_hosts=frozenset({server.host, f"{DOMAIN}:{port}", f"models.{DOMAIN}:{port}"}),
        allowed_networks=(ip_network("127.0.0.1/32"),),
        lookup=lambda _host, _port: [IPv4Address("127.0.0.1")],
    )


def order(
    prefix: str, version: str = "v1", *, bucket: str = "models", key: str | None = "store", kind: ArtifactKind = ArtifactKind.ADAPTER
) -> Order:
    return Order(kind=kind, source=f"s3://{bucket}/{prefix}".rstrip("/"), version=version, credentials_key=key)


def fetched(asked: Order, access: Access, into: Path) -> str:
    into.mkdir()
    return digest_of(fetching.fetch_files(asked, into, access=access, limits=LIMITS))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def listed(asked: Order, access: Access) -> dict[str, RemoteFile]:
    return {file.name: file for file in s3.listing(Inquiry(order=asked, access=access, time=TimeLimit.of(60, access))).files}


def test_version_is_the_last_part_of_the_prefix(server: S3Server, access: Access, tmp_path: Path) -> None:
    first, second = (write_adapter(tmp_path / version, rank=rank) for version, rank in (("v1", 4), ("v2", 2)))
    for folder in (first, second):
        (folder / "README.md").write_text("beside")
        server.upload(folder, "models", f"teams/finance/total/{folder.name}")
    digests = [fetched(order("teams/finance/total", version), access, tmp_path / f"got-{version}") for version in ("v1", "v2")]
    assert len(set(digests)) == 2
    assert files_of(tmp_path / "got-v2") == {name: (second / name).read_bytes() for name in lora.FILES}


def test_folders_below_the_version_are_not_its_files(server: S3Server, access: Access, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    server.upload(folder, "models", "tiny/v1")
    server.upload(folder, "models", "tiny/v1/original")
    server.upload(folder, "models", "tiny/v10")
    assert listed(order("tiny", kind=ArtifactKind.BASE), access).keys() == {path.name for path in folder.iterdir()}
    fetched(order("tiny", kind=ArtifactKind.BASE), access, tmp_path / "got")
    assert files_of(tmp_path / "got") == files_of(folder)


def test_bucket_may_be_a_host_of_its_own(server: S3Server, access: Access, tmp_path: Path) -> None:
    server.upload(write_adapter(tmp_path / "adapter"), "models", "virtual/v1")
    assert fetched(order("virtual", key="virtual"), access, tmp_path / "one") == fetched(order("virtual"), access, tmp_path / "two")


def test_same_bytes_under_gs_by_the_interoperable_api(server: S3Server, access: Access, tmp_path: Path) -> None:
    server.upload(write_adapter(tmp_path / "adapter"), "models", "google/v1")
    asked = replace(order("google"), source="gs://models/google")
    assert fetched(asked, access, tmp_path / "one") == fetched(order("google"), access, tmp_path / "two")


def test_listing_comes_in_pages(server: S3Server, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server.client()
    names = {f"file +{number:02}=ü.json" for number in range(12)}
    for name in names:
        client.put_object(Bucket="models", Key=f"many/v1/{name}", Body=b"{}")
    plain, pages = s3.Bucket.page_url, []

    def page_of_five(bucket: s3.Bucket, prefix: str, token: str | None) -> str:
        pages.append(token)
        return plain(bucket, prefix, token).replace("list-type=2", "list-type=2&max-keys=5")

    monkeypatch.setattr(s3.Bucket, "page_url", page_of_five)
    assert listed(order("many"), access).keys() == names
    assert len(pages) == 3
    monkeypatch.setattr(s3, "MAX_OBJECTS", 7)
    with pytest.raises(ArtifactInvalid, match="more than 7 objects"):
        listed(order("many"), access)


def test_object_is_gone_on_with_while_it_is_the_same(server: S3Server, access: Access, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    server.upload(folder, "models", "resumed/v1")
    file, whole = listed(order("resumed"), access)[lora.WEIGHTS], (folder / lora.WEIGHTS).read_bytes()
    with file.open(0, None) as stream:
        validator = stream.validator
        assert (stream.size, b"".join(stream.pieces)) == (len(whole), whole)
    with file.open(100, validator) as stream:
        assert stream.begins_at == 100
        assert b"".join(stream.pieces) == whole[100:]


def test_object_that_was_exchanged_meanwhile_is_begun_anew(server: S3Server, access: Access, tmp_path: Path) -> None:
    """Two halves of two objects would be a file that nobody has written, and resolving would record its digest."""
    server.upload(write_adapter(tmp_path / "one", rank=4), "models", "exchanged/v1")
    file = listed(order("exchanged"), access)[lora.WEIGHTS]
    with file.open(0, None) as stream:
        validator = stream.validator
    other = write_adapter(tmp_path / "two", rank=2)
    server.upload(other, "models", "exchanged/v1")
    with file.open(100, validator) as stream:
        assert stream.begins_at == 0
        assert b"".join(stream.pieces) == (other / lora.WEIGHTS).read_bytes()


def test_other_object_under_the_same_name_is_noticed(server: S3Server, access: Access, tmp_path: Path) -> None:
    server.upload(write_adapter(tmp_path / "one", rank=4), "models", "swapped/v1")
    digest = fetched(order("swapped"), access, tmp_path / "resolved")
    server.upload(write_adapter(tmp_path / "two", rank=2), "models", "swapped/v1")
    (tmp_path / "other").mkdir()
    with pytest.raises(DigestMismatch):
        fetching.fetch(order("swapped"), digest, tmp_path / "other", access=access, limits=LIMITS)


def test_rotated_entry_is_used_by_the_next_request(server: S3Server, access: Access, tmp_path: Path) -> None:
    server.upload(write_adapter(tmp_path / "adapter"), "models", "rotated/v1")
    with pytest.raises(CredentialsMissing):
        listed(order("rotated", key="wrong-secret"), access)
    (access.credentials_directory / "wrong-secret").write_text(json.dumps(entry(server)))
    assert listed(order("rotated", key="wrong-secret"), access).keys() >= lora.FILES


REFUSALS: dict[str, tuple[Order, type[ArtifactError], str]] = {
    "no version": (order("total", "v9"), ArtifactNotFound, "no version v9"),
    "no bucket": (order("total", bucket="no-such-bucket"), ArtifactNotFound, "NoSuchBucket"),
    "wrong secret": (
        order("total", key="wrong-secret"),
        CredentialsMissing,
        "SignatureDoesNotMatch for bucket models with entry 'wrong-secret'",
    ),
    "wrong key": (order("total", key="wrong-key"), CredentialsMissing, "InvalidAccessKeyId"),
    "wrong region": (order("total", key="wrong-region"), CredentialsMissing, "set region in the entry"),
    "anonymous": (order("total", key="anonymous"), CredentialsMissing, "AccessDenied"),
    "no entry": (order("total", key="absent"), CredentialsMissing, "no entry 'absent'"),
    "no bucket's name": (order("total", bucket="UPPER"), ArtifactInvalid, "is no bucket"),
    "a way out": (order("total/../other"), ArtifactInvalid, "leads elsewhere"),
    "dots for a bucket": (order("total", bucket="a..b"), ArtifactInvalid, "is no bucket"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cant_be_had_is_said(access: Access, tmp_path: Path, case: str) -> None:
    asked, error, words = REFUSALS[case]
    with pytest.raises(error, match=words) as raised:
        fetched(asked, access, tmp_path / "got")
    assert SECRET_KEY not in str(raised.value)


def test_bucket_in_another_region_is_told_as_such(access: Access) -> None:
    """As Amazon answers: a redirect without a target, and the region in a header."""
    body = b"<Error><Code>PermanentRedirect</Code></Error>"
    with local_server(lambda _: (301, {"x-amz-bucket-region": "eu-west-3"}, body)) as elsewhere:
        (access.credentials_directory / "elsewhere").write_text(json.dumps({"endpoint": f"http://{elsewhere.host}"}))
        with pytest.raises(CredentialsMissing, match="which is in region eu-west-3: set region"):
            listed(order("total", key="elsewhere"), replace(access, insecure_hosts=frozenset({elsewhere.host})))


def test_private_endpoint_has_to_be_allowed(access: Access) -> None:
    """S-01: whoever may write the Secret is a tenant too."""
    with pytest.raises(SourceNotAllowed, match="loopback"):
        listed(order("total"), replace(access, allowed_networks=()))
    with pytest.raises(SourceUnavailable, match="plain http"):
        listed(order("total"), replace(access, insecure_hosts=frozenset()))


AMAZON, CHINA = S3Credentials(), S3Credentials(region="cn-north-1")
OWN = S3Credentials(endpoint="https://minio.example:9000")


@pytest.mark.parametrize(
    ("credentials", "bucket", "scheme", "url"),
    [
        (AMAZON, "models", "s3", "https://models.s3.us-east-1.amazonaws.com"),
        (AMAZON, "dotted.models", "s3", "https://s3.us-east-1.amazonaws.com/dotted.models"),
        (CHINA, "models", "s3", "https://models.s3.cn-north-1.amazonaws.com.cn"),
        (OWN, "models", "s3", "https://minio.example:9000/models"),
        (OWN.model_copy(update={"addressing": "virtual"}), "models", "s3", "https://models.minio.example:9000"),
        (AMAZON.model_copy(update={"addressing": "path"}), "models", "s3", "https://s3.us-east-1.amazonaws.com/models"),
        (AMAZON, "models", "gs", "https://storage.googleapis.com/models"),
    ],
)
def test_bucket_is_asked_where_the_entry_says(credentials: S3Credentials, bucket: str, scheme: str, url: str) -> None:
    assert s3._address(credentials, bucket, scheme, credentials.region or "us-east-1") == url


def test_keys_for_amazon_are_never_sent_to_google(access: Access) -> None:
    (access.credentials_directory / "amazon").write_text(json.dumps({"accessKeyId": "AKID", "secretAccessKey": "x", "sessionToken": "y"}))
    with pytest.raises(CredentialsMissing, match="has no endpoint"):
        listed(replace(order("total", key="amazon"), source="gs://models/total"), access)


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult>&a;</ListBucketResult>',
        '<?xml version="1.0" encoding="UTF-16"?><ListBucketResult/>'.encode("utf-16"),
        b"<html>sign in</html>",
        b"{}",
        b"",
    ],
)
def test_what_is_no_listing_is_not_read_as_one(body: bytes) -> None:
    root = s3._xml(body)
    assert root is None or root.tag != "ListBucketResult"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("secret-text", "none for an object store"),
        ('{"accessKeyId": "secret-text"}', "go together"),
        ('{"endpoint": "https://secret-text@minio.example"}', "endpoint"),
        ('{"sessionToken": "secret-text\\r\\nX-Evil: y"}', "sessionToken"),
    ],
)
def test_entry_that_is_none_is_said_without_its_content(access: Access, text: str, words: str) -> None:
    (access.credentials_directory / "broken").write_text(text)
    with pytest.raises(CredentialsMissing, match=words) as raised:
        listed(order("total", key="broken"), access)
    assert "secret-text" not in str(raised.value)
