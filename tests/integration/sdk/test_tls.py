"""The SDK and the command line against a control plane that speaks TLS."""

import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import interlock
from interlock import errors
from tests.integration.sdk.running import CLI, eventually

IMPATIENT = interlock.Retry(give_up_after_s=0.5)


@dataclass(frozen=True)
class TlsServer:
    address: str
    api_key: str
    files: Path

    def tls(self) -> interlock.Tls:
        """What a client that may come in has."""
        return interlock.Tls(
            ca_file=self.files / "ca.pem",
            certificate_file=self.files / "client.pem",
            key_file=self.files / "client.key",
        )


def issue(folder: Path, name: str, *, ca: str = "") -> None:
    """Writes NAME.pem and NAME.key, signed by CA or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signer = subject, key
    if ca:
        issuer = x509.load_pem_x509_certificate((folder / f"{ca}.pem").read_bytes()).subject
        loaded = serialization.load_pem_private_key((folder / f"{ca}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not ca, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, opa_path: Path) -> Iterator[TlsServer]:
    """A control plane that wants a client certificate."""
    files = tmp_path_factory.mktemp("tls")
    issue(files, "ca")
    for name in ("server", "client"):
        issue(files, name, ca="ca")
    environ = {
        "INTERLOCK_DATA_DIR": str(files / "data"),
        "INTERLOCK_LISTEN": "127.0.0.1:0",
        "INTERLOCK_OPA": str(opa_path),
        "INTERLOCK_FIRST_KEY_FILE": str(files / "key"),
        "INTERLOCK_TLS_CERTIFICATE": str(files / "server.pem"),
        "INTERLOCK_TLS_KEY": str(files / "server.key"),
        "INTERLOCK_TLS_CLIENT_CA": str(files / "ca.pem"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "control_plane"], env=environ, stderr=subprocess.DEVNULL
    )
    ready = files / "data" / "server.json"
    eventually(lambda: ready.exists() or process.poll() is not None)
    address = ready.read_text().split('"address": "')[1].split('"')[0]
    yield TlsServer(address, (files / "key").read_text().strip(), files)
    process.terminate()
    process.wait(timeout=30)


async def test_a_client_with_the_right_certificates_gets_in(server: TlsServer) -> None:
    async with interlock.connect(server.address, api_key=server.api_key, tls=server.tls()) as client:
        assert (await client.identity.get_caller()).admin


async def test_a_client_without_a_certificate_does_not(server: TlsServer) -> None:
    tls = interlock.Tls(ca_file=server.files / "ca.pem")

    async with interlock.connect(server.address, api_key=server.api_key, tls=tls, retry=IMPATIENT) as client:
        with pytest.raises(errors.Unavailable):
            await client.identity.get_caller()


async def test_a_client_does_not_talk_to_a_server_of_another_authority(
    server: TlsServer, tmp_path: Path
) -> None:
    issue(tmp_path, "ca")
    tls = replace(server.tls(), ca_file=tmp_path / "ca.pem")

    async with interlock.connect(server.address, api_key=server.api_key, tls=tls, retry=IMPATIENT) as client:
        with pytest.raises(errors.Unavailable, match=r"(?i)certificate"):
            await client.identity.get_caller()


def test_login_stores_the_certificates_with_the_profile(server: TlsServer, tmp_path: Path) -> None:
    environ = {"INTERLOCK_PROFILES_FILE": str(tmp_path / "profiles.toml")}
    options = ["--ca-file", "ca.pem", "--certificate-file", "client.pem", "--key-file", "client.key"]

    subprocess.run(
        [*CLI, "login", server.address, *options],
        input=server.api_key, text=True, env=environ, cwd=server.files, check=True, timeout=60,
    )  # fmt: skip
    shown = subprocess.run(
        [*CLI, "whoami"], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )

    assert "login\tadmin\n" in shown.stdout
