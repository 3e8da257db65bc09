"""A program that is asked for a text in the background: it answers once, or has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
import slicer


class Question:
    """`onAnswer(text)` gets what the program wrote, empty when it failed; `stop` forgets the question."""

    def __init__(self, onAnswer: Callable[[str], None]) -> None:
        self._onAnswer = onAnswer
        self._process: Any = None

    @property
    def asked(self) -> bool:
        """Whether the answer is still to come."""
        return self._process is not None

    def ask(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the program, with these variables besides ours; a question under way is left to finish."""
        if self.asked:
            return
        self._process = qt.QProcess(slicer.app)
        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in (environment or {}).items():
            variables.insert(name, value)
        self._process.setProcessEnvironment(variables)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._broke)
        self._process.start(program, list(arguments))

    def stop(self) -> None:
        """Forget the question."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.waitForFinished(500)
            process.deleteLater()

    def _finished(self, exitCode: int, _exitStatus: Any) -> None:
        if self._process is None:
            return
        answer = self._process.readAllStandardOutput().data()
        text = answer.decode("utf-8", errors="replace") if isinstance(answer, bytes) else ""
        self._end(text if exitCode == 0 else "")

    def _broke(self, error: Any) -> None:
        # All other errors end in `finished`.
        if self._process is not None and error == qt.QProcess.FailedToStart:
            self._end("")

    def _end(self, text: str) -> None:
        process, self._process = self._process, None
        process.deleteLater()
        self._onAnswer(text)
