"""Certificates for servers of tests."""

import ssl
import subprocess
from pathlib import Path


def write_certificate(folder: Path, *, names: str) -> Path:
    """A certificate that signs itself (`cert.pem`, `key.pem`), for names as openssl writes them: `DNS:models.example,IP:127.0.0.1`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=tests",
    ]
    extension = ["-addext", f"subjectAltName={names}", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *extension], check=True, capture_output=True)
    return folder


def serving(folder: Path) -> ssl.SSLContext:
    """For the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def trusting(folder: Path) -> ssl.SSLContext:
    """For the client."""
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))
