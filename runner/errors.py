"""What can go wrong on a runner, each with a message that the run's reader can act on."""

from __future__ import annotations

from pathlib import Path


class RunnerError(Exception):
    """Base. Its text ends up as the run's reason, so it holds no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EngineUnavailable(RunnerError):
    """The container engine does not answer. Says nothing about its containers: they may well run on."""


class EngineRefused(RunnerError):
    """The engine answered, and would not do it: a mount, runtime, limit or network that it does not have."""


class ContainerGone(RunnerError):
    """The engine knows no such container any more."""


class StreamCut(RunnerError):
    """The connection to a container's input or output broke; the container itself may run on."""


class ImageUnavailable(RunnerError):
    """The image does not exist, may not be pulled, or cannot be reached."""


class SourceRefused(RunnerError):
    """The source is not what it may be: a link out of the workspace, a hostile URL, too large."""


class SourceUnavailable(RunnerError):
    """The source could not be had: no such repository, no such ref, wrong digest."""


class PlanNotKept(RunnerError):
    """The control plane does not take what the plan left."""


class ScriptRefused(RunnerError):
    """Environment, hooks or command hold something that no shell can be given."""


class ConfigInvalid(RunnerError):
    """A variable of the runner's environment is missing or wrong. Names it and says what to set."""


class FolderTaken(RunnerError):
    """Another process works in the runner's folder."""


class JournalDamaged(RunnerError):
    """A file of the journal is not what the runner wrote."""


class SpoolDamaged(RunnerError):
    """The disk gave back other bytes than were written. The engine's log of the container still has them."""

    def __init__(self, file: Path, offset: int) -> None:
        super().__init__(
            f"the spool file {file} was changed near byte {offset} by somebody or by the disk; nothing of it was sent. "
            "Start the runner again: it reads the output once more from the container engine. Look at the disk"
        )


class SecretRefused(RunnerError):
    """A secret that could not be masked. Never shows its value."""


class OutputDiffers(RunnerError):
    """A replay gave other bytes than were sent before. Only those up to `size_bytes` are known to be right."""

    def __init__(self, size_bytes: int, sha256: str) -> None:
        super().__init__(f"the output behind byte {size_bytes} could not be recovered after a restart")
        self.size_bytes = size_bytes
        self.sha256 = sha256


class PreparationCutShort(RunnerError):
    """The runner was started again before the container had its script."""

    def __init__(self) -> None:
        super().__init__(
            "the runner was started again while it prepared the run; the command was not performed"
        )


class MountRefused(RunnerError):
    """A mount of the pool would give a run more than a folder."""
