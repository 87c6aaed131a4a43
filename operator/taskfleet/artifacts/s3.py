"""Artifacts in object stores that speak Amazon's S3: `s3://bucket/prefix`, and `gs://bucket/prefix` by Google's interoperable API. The version is the last part of the prefix.

The credentials' entry says where the store is and who asks; without one Amazon's (or Google's) public buckets are asked. Requests are signed with botocore's signer and sent by
the one transport. Source of the protocol: Amazon S3 API reference, ListObjectsV2, GetObject, "Error responses".
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from taskfleet.artifacts import store_credentials
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, ArtifactNotFound, CredentialsMissing, SourceUnavailable
from taskfleet.artifacts.http_file import http_file
from taskfleet.artifacts.listing import Inquiry, Listing, RemoteFile
from taskfleet.artifacts.store_credentials import S3Credentials
from taskfleet.artifacts.transport import Answer, Transport

MAX_OBJECTS = 10_000  # under one version, served or not
MAX_PAGE_BYTES = 8 * 1024 * 1024  # of a thousand objects with keys of at most 1,024 bytes
MAX_ERROR_BYTES = 64 * 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_CODE = re.compile(r"[A-Za-z0-9]{1,64}")
_GOOGLE = "https://storage.googleapis.com"
_REFUSING = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


class _Signer(Protocol):
    """Headers that prove who asks for a URL."""

    def __call__(self, url: str) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket where it is asked. `url` ends without a slash; `signed` gives headers for one request."""

    name: str
    url: str
    signed: _Signer

    def object_url(self, key: str) -> str:
        return f"{self.url}/{quote(key, safe='/~')}"

    def page_url(self, prefix: str, token: str | None) -> str:
        query = {"delimiter": "/", "encoding-type": "url", "list-type": "2", "prefix": prefix}
        if token is not None:
            query["continuation-token"] = token
        return f"{self.url}/?{urlencode(sorted(query.items()), quote_via=quote, safe='')}"


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class _Page:
    objects: tuple[_Object, ...]
    next_token: str | None


def listing(inquiry: Inquiry) -> Listing:
    """The objects directly under the version. Raises ArtifactError: ArtifactNotFound where the bucket is not there, CredentialsMissing where the store refuses."""
    order = inquiry.order
    scheme, _, place = order.source.partition("://")
    name, _, path = place.rstrip("/").partition("/")
    if any(part in {".", ".."} for part in path.split("/")):
        raise ArtifactInvalid(f"source {order.source!r} has a part that leads elsewhere")
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise ArtifactInvalid(f"source {order.source!r}: {name!r} is no bucket (3 to 63 lower-case letters, digits, dots and dashes)")
    prefix = "".join(f"{part}/" for part in (path, order.version) if part)
    bucket = _bucket(inquiry, name, scheme)
    files = tuple(_file(inquiry, bucket, prefix, found) for found in _objects(inquiry, bucket, prefix) if found.key != prefix)
    if not files:
        raise ArtifactNotFound(f"{order.source} has no version {order.version}: bucket {name} has no object under {prefix}")
    return Listing(files=files)


def _bucket(inquiry: Inquiry, name: str, scheme: str) -> Bucket:
    access, key = inquiry.access, inquiry.order.credentials_key
    entry = store_credentials.read_s3(access.credentials_directory, key) if key is not None else S3Credentials()
    region = entry.region or ("auto" if scheme == "gs" else "us-east-1")
    if not _REGION.fullmatch(region):
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials: {region!r} is no region")
    if scheme == "gs" and entry.access_key_id is not None and entry.endpoint is None:
        # Amazon's keys are not for Google.
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials has no endpoint: for gs:// it is {_GOOGLE}")
    return Bucket(name, _address(entry, name, scheme, region), partial(_signature, inquiry, region))


def _address(entry: S3Credentials, bucket: str, scheme: str, region: str) -> str:
    """Where the bucket is asked: as a host of its own at Amazon, as the first part of the path elsewhere, unless the entry says otherwise."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    endpoint = entry.endpoint or (_GOOGLE if scheme == "gs" else f"https://s3.{region}.{domain}")
    as_host = entry.addressing == "virtual" if entry.addressing else entry.endpoint is None and scheme == "s3"
    # A certificate for *.s3.… covers one label only.
    if not as_host or "." in bucket:
        return f"{endpoint}/{bucket}"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{bucket}.{parts.netloc}"


def _signature(inquiry: Inquiry, region: str, url: str) -> Mapping[str, str]:
    """The entry is read anew for each request: a rotated key is used by the next one."""
    key = inquiry.order.credentials_key
    entry = store_credentials.read_s3(inquiry.access.credentials_directory, key) if key is not None else S3Credentials()
    if entry.access_key_id is None:
        return {}
    # 6 MiB of memory that only pods with such sources need.
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    request = AWSRequest(method="GET", url=url)
    S3SigV4Auth(Credentials(entry.access_key_id, entry.secret_access_key, entry.session_token), "s3", region).add_auth(request)
    return dict(request.headers.items())


def _objects(inquiry: Inquiry, bucket: Bucket, prefix: str) -> Iterator[_Object]:
    count, token, seen = 0, None, set[str]()
    with Transport(inquiry.access, inquiry.time) as transport:
        while True:
            url = bucket.page_url(prefix, token)
            with transport.get(url, credentials=bucket.signed(url)) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer, inquiry, bucket)
                page = _page(answer.read(limit=MAX_PAGE_BYTES), answer)
            count += len(page.objects)
            if count > MAX_OBJECTS:
                raise ArtifactInvalid(f"bucket {bucket.name} has more than {MAX_OBJECTS} objects under {prefix}")
            yield from page.objects
            token = page.next_token
            if token is None:
                return
            if token in seen:
                raise SourceUnavailable(f"{answer.origin} lists bucket {bucket.name} without end")
            seen.add(token)


def _file(inquiry: Inquiry, bucket: Bucket, prefix: str, found: _Object) -> RemoteFile:
    name = found.key.removeprefix(prefix)
    return http_file(inquiry, name=name, url=bucket.object_url(found.key), credentials=bucket.signed, size=found.size)


def _page(body: bytes, answer: Answer) -> _Page:
    root = _xml(body)
    if root is None or root.tag != "ListBucketResult":
        raise SourceUnavailable(f"{answer.origin} answers with no listing of a bucket: it does not speak S3")
    objects = []
    for element in root.findall("Contents"):
        key, size = element.findtext("Key"), element.findtext("Size", "")
        if key is None or not size.isdecimal() or len(size) > 18:
            raise SourceUnavailable(f"{answer.origin} lists an object without key or size")
        objects.append(_Object(unquote(key) if root.findtext("EncodingType") == "url" else key, int(size)))
    is_cut = root.findtext("IsTruncated") == "true"
    token = root.findtext("NextContinuationToken")
    if is_cut and not token:
        raise SourceUnavailable(f"{answer.origin} breaks off its listing")
    return _Page(tuple(objects), token if is_cut else None)


def _refusal(answer: Answer, inquiry: Inquiry, bucket: Bucket) -> ArtifactError:
    """What the store says, by its own code: the same HTTP status has many."""
    root = _xml(b"".join(answer.pieces(limit=MAX_ERROR_BYTES)))
    code = (root.findtext("Code") if root is not None else None) or ""
    code = code if _CODE.fullmatch(code) else f"HTTP {answer.status_code}"
    where = f"{answer.origin} answers {code} for bucket {bucket.name}"
    key = inquiry.order.credentials_key
    if answer.status_code == 404 and code.startswith(("NoSuch", "HTTP")):
        return ArtifactNotFound(where)
    region = answer.headers.get("x-amz-bucket-region", "")
    if answer.status_code in {301, 307} or code in {"PermanentRedirect", "AuthorizationHeaderMalformed"}:
        told = f", which is in region {region}" if _REGION.fullmatch(region) else ""
        return CredentialsMissing(f"{where}{told}: set region in the entry that credentialsKey names")
    if answer.status_code in {401, 403} or code in _REFUSING:
        whose = f"with entry {key!r} of the Secret taskfleet-credentials" if key is not None else "without credentials: set credentialsKey"
        return CredentialsMissing(f"{where} {whose}")
    return SourceUnavailable(where)


def _xml(body: bytes) -> ET.Element | None:
    """The document without namespaces; None for what is none. A document type could define entities that grow without bound, and S3 has none."""
    try:
        text = body.decode()
        root = ET.fromstring(text) if "<!DOCTYPE" not in text else None  # noqa: S314
    except (UnicodeDecodeError, ET.ParseError, ValueError):
        return None
    for element in root.iter() if root is not None else ():
        element.tag = element.tag.rpartition("}")[2]
    return root
