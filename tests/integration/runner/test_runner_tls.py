"""The runner's stream over TLS, with certificates on both sides."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane
from tests.integration.sdk.test_tls import issue

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


@pytest.fixture
async def certificates(control_plane: ScriptedControlPlane, tmp_path: Path) -> Path:
    """Of an authority, which the control plane now asks for on both sides, and its `server` and `client`."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    issue(folder, "ca")
    for name in ("server", "client"):
        issue(folder, name, ca="ca")
    credentials = grpc.ssl_server_credentials(
        [((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())],
        root_certificates=(folder / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    await control_plane.stop()
    await control_plane.start(credentials)
    return folder


async def test_a_runner_with_its_certificate_runs_a_task_over_tls(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, certificates: Path
) -> None:
    start_runner(
        INTERLOCK_CA_FILE=str(certificates / "ca.pem"),
        INTERLOCK_CLIENT_CERT_FILE=str(certificates / "client.pem"),
        INTERLOCK_CLIENT_KEY_FILE=str(certificates / "client.key"),
    )
    await control_plane.connected()
    run = control_plane.assign(job("echo hello"))
    await control_plane.ended(run)
    assert run.text == "hello\n"


async def test_a_runner_without_its_certificate_or_without_tls_is_not_let_in(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, certificates: Path, tmp_path: Path
) -> None:
    for number, environment in enumerate([{"INTERLOCK_CA_FILE": str(certificates / "ca.pem")}, {}]):
        runner = start_runner(tmp_path / f"runner{number}", **environment)
        await runner.until_logged("runner.disconnected")
    assert control_plane.hellos == []
