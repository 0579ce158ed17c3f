"""Collecting findings: the same sentence about many records is told once, with the first ids and how many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

FIRST_IDS = 5


@dataclass
class Finding:
    """One kind of problem, or a notice, in one file."""

    where: str
    sentence: str
    is_problem: bool
    noun: str = ""
    ids: list[Any] = field(default_factory=list)
    count: int = 0

    def line(self) -> str:
        """For people to read."""
        text = f"{'PROBLEM' if self.is_problem else 'notice '} {self.where}: {self.sentence}"
        if not self.noun:
            return text
        more = " ..." if self.count > len(self.ids) else ""
        plural = self.noun if self.count == 1 else f"{self.noun}s"
        return f"{text} ({self.count} {plural}: {', '.join(map(str, self.ids))}{more})"


@dataclass
class Findings:
    """What the checks of one file found; `where` names the file in each sentence."""

    where: str
    found: dict[str, Finding] = field(default_factory=dict)

    def problem(self, sentence: str, noun: str = "", record_id: Any = None) -> None:
        """Something that makes training or scoring wrong or impossible."""
        self._add(sentence, True, noun, record_id)

    def notice(self, sentence: str, noun: str = "", record_id: Any = None) -> None:
        """Something unusual that may be meant so."""
        self._add(sentence, False, noun, record_id)

    def _add(self, sentence: str, is_problem: bool, noun: str, record_id: Any) -> None:
        finding = self.found.setdefault(sentence, Finding(self.where, sentence, is_problem, noun))
        finding.count += 1
        if len(finding.ids) < FIRST_IDS:
            finding.ids.append(record_id)

    @property
    def problems(self) -> list[Finding]:
        """The findings that are problems."""
        return [finding for finding in self.found.values() if finding.is_problem]

    def lines(self) -> list[str]:
        """All findings, problems first."""
        return [
            finding.line()
            for finding in sorted(self.found.values(), key=lambda finding: not finding.is_problem)
        ]


def numbers(value: Any) -> bool:
    """Whether a value is a list of finite numbers."""
    if not isinstance(value, list):
        return False
    try:
        array = np.array(value)
    except ValueError:  # lists of different lengths inside
        return False
    return array.ndim == 1 and (array.dtype.kind in "iuf" or not value)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (json has neither infinity nor NaN)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
