"""The parts of `ctenhance` from below to above (docs/architecture.md); those of a line stand side by side."""

from __future__ import annotations

#: Each may import those of the lines above its own, and itself.
ORDER: list[set[str]] = [
    {"choices"},
    {"runtime"},
    {"options"},
    {"core"},
    {"physics"},
    {"scan"},
    {"files", "training"},
    {"degradation", "quality"},
    {"enhancement", "reconstruction", "decomposition", "study"},
    {"view", "batch", "service"},
    {"cli", "commands", "__main__"},
]
