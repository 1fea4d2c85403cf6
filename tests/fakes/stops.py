"""A stop flag whose waits are short, so that a test sees at once what a process does every ten seconds."""

from __future__ import annotations

from dicom_node.system.lifecycle import StopFlag

_LONGEST_S = 0.05


class ImpatientStop(StopFlag):
    """A stop flag like that of a process, but it waits a twentieth of a second at most."""

    def wait(self, seconds: float | None = None) -> bool:
        """Whether to stop, after ``seconds`` or 0.05 s."""
        return super().wait(_LONGEST_S if seconds is None else min(seconds, _LONGEST_S))
