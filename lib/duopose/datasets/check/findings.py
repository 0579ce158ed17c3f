"""Collected problems and notices: a message about many records appears once, with the first ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_IDS_SHOWN = 5
MAX_NUMBER = 1e15  # beyond it float64 does not hold every whole number; no such pixel value exists


@dataclass
class Finding:
    """One kind of problem, or a notice, in one file."""

    where: str
    message: str
    is_problem: bool
    noun: str = ""  # what the ids are of: image, annotation ...; "" for a message about the file
    ids: list[Any] = field(default_factory=list)
    count: int = 0

    def line(self) -> str:
        """The message with the first ids and the number of records."""
        text = f"{'PROBLEM' if self.is_problem else 'notice '} {self.where}: {self.message}"
        if not self.noun:
            return text
        noun = self.noun if self.count == 1 else f"{self.noun}s"
        ids = ", ".join(map(str, self.ids))
        more = " ..." if self.count > len(self.ids) else ""
        return f"{text} ({self.count} {noun}: {ids}{more})"


@dataclass
class Findings:
    """The findings of one file; `where` names it in each message."""

    where: str
    by_message: dict[str, Finding] = field(default_factory=dict)

    def problem(self, message: str, noun: str = "", record_id: Any = None) -> None:
        """Something that makes training or scoring wrong or impossible."""
        self._add(message, True, noun, record_id)

    def notice(self, message: str, noun: str = "", record_id: Any = None) -> None:
        """Something unusual that may be intended."""
        self._add(message, False, noun, record_id)

    def about(self, noun: str, record_id: Any) -> RecordFindings:
        """The same two methods for one record."""
        return RecordFindings(self, noun, record_id)

    def _add(self, message: str, is_problem: bool, noun: str, record_id: Any) -> None:
        new = Finding(self.where, message, is_problem, noun)
        finding = self.by_message.setdefault(message, new)
        finding.count += 1
        if len(finding.ids) < MAX_IDS_SHOWN:
            finding.ids.append(record_id)

    @property
    def problems(self) -> list[Finding]:
        """The findings that are problems."""
        return [finding for finding in self.by_message.values() if finding.is_problem]

    def lines(self) -> list[str]:
        """All findings as text, problems first."""
        ordered = sorted(self.by_message.values(), key=lambda finding: not finding.is_problem)
        return [finding.line() for finding in ordered]


@dataclass(frozen=True)
class RecordFindings:
    """Adds findings about one record."""

    findings: Findings
    noun: str
    record_id: Any

    def problem(self, message: str) -> None:
        """See `Findings.problem`."""
        self.findings.problem(message, self.noun, self.record_id)

    def notice(self, message: str) -> None:
        """See `Findings.notice`."""
        self.findings.notice(message, self.noun, self.record_id)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (json has neither infinity nor NaN)."""
    is_numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_numeric and abs(value) < MAX_NUMBER


def is_number_list(value: Any) -> bool:
    """Whether a value is a flat list of finite numbers."""
    if not isinstance(value, list):
        return False
    try:
        array = np.array(value)
    except ValueError:  # nested lists of different lengths
        return False
    return array.ndim == 1 and (array.dtype.kind in "iuf" or not value)
