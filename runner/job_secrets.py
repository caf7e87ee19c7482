"""Which values of a job may never be seen in its output, as the masker's list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.errors import SecretRefused
from runner.masking import Masker
from runner.needles import MAX_SECRET_BYTES, MIN_LINE_BYTES, MIN_SECRET_BYTES

if TYPE_CHECKING:
    from interlock.v1.runner_service_pb2 import Job


def secrets_of(job: Job) -> list[bytes]:
    """Secret variables and files, and the credential that the source is read with. Raises `SecretRefused`."""
    values: set[bytes] = set()
    for variable in job.variables:
        if variable.secret:
            values.update(_maskable(variable.value.encode(), f"variable {variable.name}"))
    for file in job.files:
        if file.secret:
            values.update(_maskable(file.content, f"file {file.path}"))
    credential = job.source.git.credential
    values.update(_maskable(credential.password.encode(), "the source's password"))
    values.update(_maskable(credential.ssh_private_key.encode(), "the source's private key"))
    return sorted(values)


def masked(text: str, job: Job) -> str:
    """A message about the job, as anybody may see it."""
    try:
        masker = Masker(secrets_of(job))
    except SecretRefused as error:
        # Whatever the message was: what cannot be masked must not be in it.
        return error.message
    return (masker.feed(text.encode()) + masker.finish()).decode(errors="replace")


def _maskable(value: bytes, what: str) -> Iterator[bytes]:
    """The value, or its lines when it is a file too large for one needle."""
    if not value:
        return
    if len(value) < MIN_SECRET_BYTES:
        raise SecretRefused(
            f"the secret {what} is too short to mask: {len(value)} bytes of at least {MIN_SECRET_BYTES}"
        )
    if len(value) <= MAX_SECRET_BYTES:
        yield value
        return
    for line in value.splitlines():
        for start in range(0, len(line), MAX_SECRET_BYTES):
            piece = line[start : start + MAX_SECRET_BYTES]
            if len(piece) >= MIN_LINE_BYTES:
                yield piece
