"""One certificate authority for each cluster, and the certificates of its components."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import os
from typing import TYPE_CHECKING, Final

import yaml

from localcluster.namespaces import NODE_ADDRESS

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

API_SERVER: Final = f"https://{NODE_ADDRESS}:6443"
LIFETIME: Final = dt.timedelta(days=3650)
CERTIFICATES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    # file: common name, organization, further names
    "apiserver": (
        "kube-apiserver",
        "",
        (
            NODE_ADDRESS,
            "10.96.0.1",
            "127.0.0.1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ),
    ),
    "kubelet": ("system:node:node0", "system:nodes", (NODE_ADDRESS, "node0")),
    "admin": ("admin", "system:masters", ()),
    "controller-manager": ("system:kube-controller-manager", "", ()),
    "scheduler": ("system:kube-scheduler", "", ()),
    "proxy": ("system:kube-proxy", "", ()),
    "coredns": ("system:coredns", "", ()),
    "apiserver-to-kubelet": ("apiserver-kubelet-client", "system:masters", ()),
    "front-proxy": ("front-proxy-client", "", ()),
}
CLIENTS: Final = ("admin", "controller-manager", "scheduler", "kubelet", "proxy", "coredns")
"""Certificates that also come as a kubeconfig."""


def ensure(folder: Path) -> None:
    """Write keys, certificates and kubeconfigs, unless an earlier run has."""
    complete = folder / "complete"
    if complete.exists():
        return
    from cryptography import x509  # noqa: PLC0415 - slow to import, and needed once
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    ca_key = _new_key(folder / "ca.key")
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local cluster")])
    authority = _builder(ca_name, ca_name, ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    _sign(authority, ca_key, folder / "ca.crt")
    _new_key(folder / "service-accounts.key", public=folder / "service-accounts.pub")
    for file, (common_name, organization, names) in CERTIFICATES.items():
        key = _new_key(folder / f"{file}.key")
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        leaf = _builder(x509.Name(subject), ca_name, key).add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names or (file,)]),
            critical=False,
        )
        _sign(leaf, ca_key, folder / f"{file}.crt")
    for client in CLIENTS:
        _write_kubeconfig(folder, client)
    complete.touch()


def _new_key(path: Path, public: Path | None = None) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    # SEC1: the form that the controller manager accepts for a signing key of this kind.
    kind = form.PrivateFormat.TraditionalOpenSSL
    secret = key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret)
    if public is not None:
        kind_public = form.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, kind_public))
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415

    # A clock that is a little behind must not refuse a certificate of today.
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
    )


def _sign(
    certificate: x509.CertificateBuilder, authority: ec.EllipticCurvePrivateKey, path: Path
) -> None:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415

    signed = certificate.sign(authority, hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_kubeconfig(folder: Path, client: str) -> None:
    """Write a kubeconfig that needs no other file."""

    def content(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "local",
                "cluster": {"server": API_SERVER, "certificate-authority-data": content("ca.crt")},
            }
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": content(f"{client}.crt"),
                    "client-key-data": content(f"{client}.key"),
                },
            }
        ],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": client}}],
        "current-context": "local",
    }
    path = folder / f"{client}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
