"""An S3-compatible object store for tests and demonstrations: moto's server as a process of its own, on a free loopback
port. What is in it ends with it."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Final

from scripts.progress import SetupError

_STOP_S: Final = 10.0


@dataclass(eq=False)
class Server:
    """One that answers, at `endpoint`."""

    endpoint: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def environment(self, endpoint: str = "") -> dict[str, str]:
        """What a control plane needs to keep its output in a new bucket here; `endpoint`: by another way."""
        bucket = f"interlock-{next(self._numbers)}"
        connection = HTTPConnection(self.endpoint.removeprefix("http://"), timeout=_STOP_S)
        connection.request("PUT", f"/{bucket}")
        answer = connection.getresponse()
        connection.close()
        if answer.status != HTTPStatus.OK:
            raise SetupError(f"moto's server makes no bucket: {answer.status} {answer.reason}")
        return {
            "INTERLOCK_OBJECT_STORE_URL": f"s3://{bucket}/interlock",
            "INTERLOCK_OBJECT_STORE_ENDPOINT": endpoint or self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
        }


@contextmanager
def running() -> Iterator[Server]:
    """A server that is there until the end of this block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.objects"],
        # It ends when this closes, also where whoever runs this was killed.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise SetupError("moto's server does not start; what it said is above")
        yield Server(endpoint)
    finally:
        process.communicate(timeout=_STOP_S)


def main() -> None:
    """Serves until standard input ends; says where on standard output."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415  # takes a second
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
