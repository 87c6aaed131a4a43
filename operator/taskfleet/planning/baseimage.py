"""Bases that the kubelet mounts as image volumes, where a class says so."""

from taskfleet.api.modelpool import ModelPoolSpec
from taskfleet.api.servingclass import OciBases, ServingClass

BASE_IMAGE = "base-image"  # the volume's name
_PREFIX = "oci://"


def base_image(spec: ModelPoolSpec, serving_class: ServingClass) -> str | None:
    """The image that the pool's pods mount as their base; None where agents fetch it."""
    if serving_class.spec.store.oci_bases is not OciBases.IMAGE_VOLUME or not spec.base.source.startswith(_PREFIX):
        return None
    return f"{spec.base.source.removeprefix(_PREFIX).rstrip('/')}:{spec.base.revision}"
