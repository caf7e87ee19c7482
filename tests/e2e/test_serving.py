"""How the server can be reached: loopback, a unix socket, TLS, mutual TLS; health, reflection, first start."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import interlock
from interlock import errors
from tests import house as houses
from tests.house import House


async def test_health_answers_for_every_service(served: House) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "interlock.v1.RunService", "interlock.v1.RunnerService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_every_service_so_that_grpcurl_needs_no_file(served: House) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {
        f"interlock.v1.{name}Service" for name in ("Audit", "Identity", "Policy", "Pool", "Run", "Stack")
    } <= names


async def test_the_first_start_makes_one_admin_key_and_the_second_none(
    tmp_path: Path, engine_url: str
) -> None:
    house = House(tmp_path, engine_url)
    del (environment := dict(house.server.environment))["INTERLOCK_FIRST_KEY_FILE"]
    house.server.environment = environment
    try:
        await house.start_server()
        [key] = [word for word in house.server.text().split() if word.startswith("INTERLOCK_API_KEY=")]
        async with interlock.connect(house.address, api_key=key.partition("=")[2]) as client:
            assert (await client.identity.get_caller()).admin
        house.server.stop()
        await house.start_server()
        assert "API_KEY" not in house.server.text()
        assert key.partition(".")[2] not in house.server.text()
    finally:
        house.close()


async def test_a_unix_socket_is_for_its_owner_alone(short_tmp: Path, engine_url: str) -> None:
    socket = short_tmp / "s"
    async with houses.opened(short_tmp, engine_url, INTERLOCK_LISTEN=f"unix://{socket}") as house:
        assert socket.stat().st_mode & 0o077 == 0
        async with house.connect() as client:
            assert (await client.identity.get_caller()).admin


async def test_tls_and_a_client_certificate_are_asked_for_when_configured(
    tmp_path: Path, engine_url: str
) -> None:
    pki = _Pki(tmp_path)
    environment = {
        "INTERLOCK_TLS_CERTIFICATE": str(pki.path("server.crt")),
        "INTERLOCK_TLS_KEY": str(pki.path("server.key")),
        "INTERLOCK_TLS_CLIENT_CA": str(pki.path("ca.crt")),
    }
    async with houses.opened(tmp_path, engine_url, **environment) as house:
        whole = interlock.Tls(
            ca_file=pki.path("ca.crt"),
            certificate_file=pki.path("client.crt"),
            key_file=pki.path("client.key"),
        )
        async with interlock.connect(house.address, api_key=house.admin_key, tls=whole) as client:
            assert (await client.identity.get_caller()).admin
        without = interlock.Tls(ca_file=pki.path("ca.crt"))
        retry = interlock.Retry(give_up_after_s=0)
        async with interlock.connect(
            house.address, api_key=house.admin_key, tls=without, retry=retry
        ) as client:
            with pytest.raises(errors.Unavailable):
                await client.identity.get_caller()


async def test_the_wrong_master_key_is_a_clear_error_and_not_a_lost_secret(
    tmp_path: Path, engine_url: str
) -> None:
    async with houses.opened(tmp_path, engine_url) as house:
        house.server.stop()
        (house.data_dir / "master.key").chmod(0o644)
        with pytest.raises(AssertionError, match="chmod 600"):
            await house.start_server()


class _Pki:
    """A certificate authority, and certificates for the server and a client, made for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = _name("test ca")
        ca = self._certificate(self._ca_name, self._ca_key, is_ca=True)
        self._write("ca", ca, self._ca_key)
        for who in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            self._write(who, self._certificate(_name(who), key), key)

    def path(self, name: str) -> Path:
        return self._folder / name

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool = False
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        return builder.sign(self._ca_key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.path(f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.path(f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


async def test_a_second_control_plane_on_one_sqlite_file_is_refused_from_whichever_folder(
    served: House, tmp_path: Path
) -> None:
    alias = tmp_path / "alias.db"
    alias.symlink_to(served.data_dir / "interlock.db")
    second = House(tmp_path, served.engine_url, {"INTERLOCK_DATABASE_URL": f"sqlite:///{alias}"})
    second.server.start()
    assert second.server.process is not None
    assert second.server.process.wait(timeout=30) == 1
    assert "another control plane works on the SQLite file" in second.server.text()
    assert "Several control planes need PostgreSQL" in second.server.text()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://localhost/interlock", "mysql is not spoken here"),
        ("postgresql://localhost:1/interlock", "cannot be used"),
    ],
)
async def test_a_database_that_cannot_be_used_is_said_and_the_password_is_not(
    tmp_path: Path, url: str, problem: str
) -> None:
    secret = url.replace("//", "//somebody:hunter2@")
    house = House(tmp_path, "", {"INTERLOCK_DATABASE_URL": secret})
    house.server.start()
    assert house.server.process is not None
    assert house.server.process.wait(timeout=30) == 1
    assert problem in house.server.text()
    assert "hunter2" not in house.server.text()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
