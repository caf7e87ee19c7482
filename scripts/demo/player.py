"""Plays the demo's steps one after the other, and ends what they started."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.demo.screen import Screen
from scripts.demo.step import Chapter, Outcome, Step, problems, without_colours
from scripts.demo.terminal import Running, Stuck

STEP_WITHIN_S = 120.0
# `interlock dev` lets runs and streams end before it ends itself.
END_WITHIN_S = 45.0
SYSTEM = "system"
ROOT = Path(__file__).resolve().parents[2]


class Player:
    """Knows who has which key, and what goes on in which terminal."""

    def __init__(self, screen: Screen, environ: Mapping[str, str]) -> None:
        self._screen = screen
        self._environ = environ
        self._terminals: dict[str, Running] = {}
        self.notes: dict[str, str] = {}

    def play(self, chapters: Sequence[Chapter]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        total = sum(len(chapter.steps) for chapter in chapters)
        for chapter in chapters:
            self._screen.chapter(chapter.title)
            for step in chapter.steps:
                outcome = self._play(step, len(outcomes) + 1, total)
                self._screen.verdict(outcome)
                outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """Ends every command that still runs, those on the system before the system."""
        for name in sorted(self._terminals, key=lambda name: name == SYSTEM):
            self._terminals[name].end(patience_s=END_WITHIN_S)
        self._terminals.clear()

    def _play(self, step: Step, number: int, total: int) -> Outcome:
        begun_at = time.monotonic()
        try:
            step = step.filled(self.notes)
            running = self._running(step)
        except KeyError as error:
            self._screen.begin(step, number, total)
            return Outcome(step, [f"not tried: an earlier step did not give {error}"], 0.0)
        self._screen.begin(step, number, total)
        found: list[str] = []
        try:
            for line in running.lines(until=step.until, within_s=STEP_WITHIN_S):
                self._screen.line(line)
        except Stuck as error:
            found.append(str(error))
        if not step.until and running.exit_code is None:
            running.end(patience_s=1.0)
        self._learn(step, running)
        found += problems(step, running.output, running.exit_code)
        return Outcome(step, found, time.monotonic() - begun_at)

    def _running(self, step: Step) -> Running:
        """Raises KeyError for what earlier steps did not give."""
        if step.continues:
            running = self._terminals[step.continues]
            if step.interrupts:
                running.interrupt()
            return running
        environ = {**self._environ, **step.environ}
        if step.terminal != SYSTEM:
            environ |= {"INTERLOCK_ADDRESS": self.notes["address"], "INTERLOCK_API_KEY": self.notes[step.who]}
        running = Running(step.command, environ=environ, folder=ROOT, keeps_answer=bool(step.keeps))
        self._terminals[step.terminal] = running
        return running

    def _learn(self, step: Step, running: Running) -> None:
        if step.keeps and running.exit_code == 0:
            self.notes[step.keeps] = running.answer()
        if step.learns and (match := re.search(step.learns, without_colours(running.output), re.MULTILINE)):
            self.notes.update(match.groupdict())
