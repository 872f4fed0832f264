"""What the host of a virtual machine takes of its processors: the "steal" time of Linux, which `top` shows as st."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Processors"]

STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Processors:
    """Of all processors together, in ticks since the system started. worked: for any program or the system; stolen:
    waiting for the host, with something to do."""

    worked: int
    stolen: int

    @staticmethod
    def now(stat: Path = STAT) -> Processors | None:
        """None where the system does not tell."""
        try:
            user, nice, system, _, _, irq, softirq, stolen = map(int, stat.read_text().split()[1:9])
        except (OSError, ValueError):
            return None
        return Processors(user + nice + system + irq + softirq, stolen)

    def share_stolen(self, later: Processors) -> float:
        """Of the time in which processors worked or had to wait for the host, from here to `later`."""
        stolen = later.stolen - self.stolen
        return stolen / max(1, stolen + later.worked - self.worked)
