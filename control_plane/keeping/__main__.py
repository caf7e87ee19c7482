"""`python -m control_plane.keeping backup|restore|verify`: what `interlock admin` becomes.

Exit code 0: all is whole; 1: it was refused, or failed; 2: wrong usage; 3: it was done, and something stored is damaged.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
import structlog

from control_plane import config
from control_plane.keeping import audit_check, backup, restore, verify
from control_plane.keeping.errors import Refused
from control_plane.keeping.ground import Ground
from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Report
from control_plane.keys import MasterKeyError

KEY_WORDS = "whoever-has-this-backup-can-read-every-secret"
_DAMAGED = 3


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    # What the parts log on their way is in the report.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    # As Ctrl-C: what was begun is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        report = _run(options, Progress())
    except (Refused, config.ConfigError, MasterKeyError) as error:
        return _failed(options.command, str(error))
    except sa.exc.DBAPIError as error:
        return _failed(options.command, f"the database cannot be read: {str(error.orig).strip()}")
    except OSError as error:
        return _failed(options.command, f"{error.filename or 'the disk'}: {error.strerror}")
    except KeyboardInterrupt:
        return _failed(options.command, "interrupted", 128 + signal.SIGINT)
    if options.output == "json":
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(*_lines(options.command, report), sep="\n")
    return 0 if report.intact else _DAMAGED


def _run(options: argparse.Namespace, progress: Progress) -> Report:
    if options.command == "verify" and options.backup:
        return verify.backup(options.backup, progress)
    ground = Ground.of(config.read(os.environ, is_terminal=False))
    match options.command:
        case "backup":
            return backup.make(
                ground, options.target, with_master_key=bool(options.master_key), progress=progress
            )
        case "restore":
            return restore.put_back(options.backup, ground, progress)
        case _:
            return verify.installation(ground, options.known_head, progress)


def _lines(command: str, report: Report) -> list[str]:
    done = {"backup": "backup made", "restore": "restored"}.get(command, "intact")
    if not report.intact:
        done = {
            "backup": "backup made; what it is of is damaged",
            "restore": "restored, with what was damaged",
        }.get(command, "damaged")
    return [f"{done}: {report.place}", *report.lines()]


def _failed(command: str, message: str, exit_code: int = 1) -> int:
    print(f"interlock admin {command}: {message}", file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="interlock admin")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("backup")
    making.add_argument("target", type=Path)
    making.add_argument("--master-key", choices=[KEY_WORDS], default="")
    restoring = commands.add_parser("restore")
    restoring.add_argument("backup", type=Path)
    verifying = commands.add_parser("verify")
    verifying.add_argument("backup", type=Path, nargs="?")
    verifying.add_argument("--known-head", type=audit_check.head_of, default=None)
    for command in (making, restoring, verifying):
        command.add_argument("--output", choices=["text", "json"], default="text")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
