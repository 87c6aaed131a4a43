"""Certificates and kubeconfigs of one instance: its own authority, short-lived like the cluster itself."""

import base64
import datetime as dt
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .instance import Instance

LIFETIME = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a certificate names. `hosts` makes it a server's, otherwise it is a client's."""

    file: str
    common_name: str
    organization: str = ""
    hosts: tuple[str, ...] = ()


def write_pki(instance: Instance) -> None:
    """Writes everything once; an instance keeps its certificates until `down`."""
    if instance.kubeconfig.exists():
        return
    folder = instance.pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority(folder, "ca")
    front_proxy = _authority(folder, "front-proxy-ca")
    _service_account_keys(folder)
    for subject in _subjects(instance):
        _issue(folder, authority, subject)
    _issue(folder, front_proxy, Subject(file="front-proxy", common_name="front-proxy"))
    for user in ("kubelet", "controller-manager", "scheduler", "proxy"):
        _write_kubeconfig(instance, user, folder / f"{user}.kubeconfig")
    # Last: its presence says that all the others are there.
    _write_kubeconfig(instance, "admin", instance.kubeconfig)


def _subjects(instance: Instance) -> tuple[Subject, ...]:
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    api_hosts = (*names, "127.0.0.1", instance.node_address, instance.api_service_address)
    return (
        Subject(file="apiserver", common_name="kube-apiserver", hosts=api_hosts),
        Subject(file="kubelet-server", common_name=instance.node_name, hosts=(instance.node_name, instance.node_address, "127.0.0.1")),
        Subject(file="apiserver-kubelet-client", common_name="apiserver-kubelet-client", organization="system:masters"),
        Subject(file="admin", common_name="admin", organization="system:masters"),
        Subject(file="kubelet", common_name=f"system:node:{instance.node_name}", organization="system:nodes"),
        Subject(file="controller-manager", common_name="system:kube-controller-manager"),
        Subject(file="scheduler", common_name="system:kube-scheduler"),
        Subject(file="proxy", common_name="system:kube-proxy"),
    )


def _authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"taskfleet local {name}")])
    builder = _builder(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = _key_usage(signs_certificates=True)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    _write(folder, name, certificate, key)
    return Authority(certificate, key)


def _issue(folder: Path, authority: Authority, subject: Subject) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    builder = _builder(x509.Name(attributes), authority.certificate.subject, key)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if subject.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if subject.hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in subject.hosts]), critical=False)
    _write(folder, subject.file, builder.sign(authority.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Virtual machines that were paused may have clocks that jump a little.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_secret(folder / f"{name}.key", _pem(key))


def _service_account_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_secret(folder / "service-accounts.key", _pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-accounts.pub").write_bytes(public)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _write_kubeconfig(instance: Instance, user: str, path: Path) -> None:
    # Data rather than file names, so that a copy of the file works anywhere.
    def encoded(name: str) -> str:
        return base64.b64encode((instance.pki / name).read_bytes()).decode()

    name = instance.node_name
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": f"https://{instance.node_address}:6443", "certificate-authority-data": encoded("ca.crt")}},
        ],
        "users": [
            {"name": user, "user": {"client-certificate-data": encoded(f"{user}.crt"), "client-key-data": encoded(f"{user}.key")}},
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    # JSON is YAML.
    _write_secret(path, json.dumps(content, indent=1).encode())
