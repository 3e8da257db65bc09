"""A program that is asked for a text in the background: it answers once, or has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from CTEnhanceLib.process.child import Child, Listeners, start


class Question:
    """`onAnswer(text)` gets what the program wrote, empty when it failed; `stop` forgets the question."""

    def __init__(self, onAnswer: Callable[[str], None]) -> None:
        self._onAnswer = onAnswer
        self._process: Child | None = None
        self._answer = b""

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
        self._answer = b""
        listeners = Listeners(self._read, lambda _written: None, self._ended, lambda: self._end(""))
        self._process = start(program, list(arguments), environment or {}, listeners)

    def stop(self) -> None:
        """Forget the question."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(0.5)
            process.close()

    def _read(self, written: bytes) -> None:
        self._answer += written

    def _ended(self, exitCode: int, crashed: bool) -> None:
        answered = exitCode == 0 and not crashed
        self._end(self._answer.decode("utf-8", errors="replace") if answered else "")

    def _end(self, text: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()
        self._onAnswer(text)
