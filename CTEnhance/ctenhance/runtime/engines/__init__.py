"""Inference engines: what runs a trained network, chosen once a run (`choice`), behind one small interface
(`base`).

`torch` runs on CUDA, MPS and CPUs; `openvino` runs exported networks on Intel's graphics and on any CPU,
without torch. A network of either takes and gives numpy arrays. Nothing heavy is imported before it is used:
on a CPU `enhance` must start, and work, where there is no torch.
"""

import sys

# Importing openvino reports that import to its makers over the network by this package, where it is there. No
# hospital asked for it; openvino falls back to a stub of its own (findings/openvino-import-reports.sh).
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
