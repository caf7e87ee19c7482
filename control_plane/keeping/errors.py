"""What keeps a backup, a restore or a check from being made. Nothing was changed; each says what to do."""

from __future__ import annotations


class Refused(Exception):
    """The message says what is wrong, where, and what to do."""


class NotABackup(Refused):
    """There is nothing there, or something else."""


class NewerBackup(Refused):
    """A newer release has made it."""


class DamagedBackup(Refused):
    """It was changed or cut off after it was made."""


class TargetInUse(Refused):
    """Where something is to be put, there is something."""


class DatabaseUnfit(Refused):
    """The database is not there, not ours, or has another shape than this release needs."""


class KeyUnfit(Refused):
    """The master key is not the one that the backup's secrets are sealed under."""
