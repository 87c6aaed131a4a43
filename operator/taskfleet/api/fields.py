"""Building blocks of the objects: a base model that speaks camelCase, and bounded field types.

Every string, list and number of a custom resource is bounded: the API server then refuses absurd input itself, and CEL rules have a known cost.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Immutable; camelCase on the wire; unknown fields are ignored, because a newer CRD may have more of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The Kubernetes JSON of this object, without what was never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules as (rule, message), for `json_schema_extra`; `self` is the object that carries them."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


DnsLabel = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DnsSubdomain = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")]
Uid = Annotated[str, Field(max_length=64, pattern=r"^[-0-9A-Za-z]+$")]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
# No user info (a password in a manifest), no query, no fragment, no white space; no path element begins with a dot, so none leads upwards.
SourceUrl = Annotated[
    str, Field(max_length=512, pattern=r"^(oci|s3|gs|hf|https|pvc)://[A-Za-z0-9\[\]._:-]+(/[A-Za-z0-9_~+=-][A-Za-z0-9._~+=-]*)*/?$")
]
VersionName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
CredentialsKey = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")]
Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^([0-9]+(\.[0-9]{1,3})?)([munkMGTPE]|[KMGTPE]i)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    # After the field, so that the bounds are those of the text.
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
# Money as text: binary floating point can't hold cents.
Decimal = Annotated[str, Field(max_length=20, pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]
Percent = Annotated[float, Field(ge=0, le=100)]
LabelKey = Annotated[str, Field(max_length=317, pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$")]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
# Parts of the pod API that are handed through to Kubernetes, whose API server validates them.
PodApiObject = Annotated[dict[str, Any], Field(max_length=16, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Metadata(Model):
    """The part of ObjectMeta that decisions need."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`, as people and logs write it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name
