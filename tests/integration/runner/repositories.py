"""Git repositories made by git itself, for sources to be read from."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.sources.git import GitSource

EVERY_PROTOCOL = frozenset({"file", "http", "https", "ssh", "git"})


@dataclass
class Repository:
    path: Path

    @classmethod
    def new(cls, path: Path) -> "Repository":
        path.mkdir()
        made = cls(path)
        made.git("init", "--quiet")
        return made

    def git(self, *arguments: str) -> str:
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *who, *arguments],
            cwd=self.path,
            env=os.environ | quiet,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a change")
        return self.git("rev-parse", "HEAD")

    def source(self, commit: str) -> GitSource:
        return GitSource(url=f"file://{self.path}", commit=commit, protocols=EVERY_PROTOCOL)
