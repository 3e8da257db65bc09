#!/usr/bin/env bash
# vtkSlicerApplicationLogic.CreateProcessingThread gives the main thread, too, the lowest priority (Linux).
#
# Version:   slicer-core 5.12.4.0 (3D Slicer's libraries from PyPI), on Linux
# Belief:    The application logic starts threads for work in the background, and lowers the priority of those.
# Behaviour: The priority is set for the process, which Linux takes for its first thread: the one that runs the user
#            interface and draws the views goes from nice 0 to nice 19, and an unprivileged user cannot take it back.
#            Every program that is started from there inherits it. On a computer that is busy otherwise the window then
#            waits for all others. The environment variable SLICER_BACKGROUND_THREAD_PRIORITY=0, set before the start,
#            leaves the thread as it is.
# Seen:      as it comes:                         main thread before 0, after 19; a program started then: 19
#            SLICER_BACKGROUND_THREAD_PRIORITY=0: main thread before 0, after 0; a program started then: 0
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 2
[ "$(nice)" = 0 ] || { echo "Start it with the usual priority." >&2; exit 2; }
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check slicer-core==5.12.4.0 || exit 2
cd "$venv"

cat > tried.py <<'PY'
import os
import subprocess
import threading
import time

from slicer import vtkMRMLScene, vtkSlicerApplicationLogic


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


before = niceness()
logic = vtkSlicerApplicationLogic()
logic.SetMRMLScene(vtkMRMLScene())
logic.CreateProcessingThread()
time.sleep(3)  # the threads set it when they begin
after = niceness()
started = int(subprocess.run(["nice"], capture_output=True, text=True, check=True).stdout)
logic.TerminateProcessingThread()
print(f"main thread before {before}, after {after}; a program started then: {started}")
PY

seen=$("$venv/bin/python" -W ignore tried.py)
left=$(SLICER_BACKGROUND_THREAD_PRIORITY=0 "$venv/bin/python" -W ignore tried.py)
echo "as it comes:                         $seen"
echo "SLICER_BACKGROUND_THREAD_PRIORITY=0: $left"
[ "$seen" = "main thread before 0, after 19; a program started then: 19" ] \
  && [ "$left" = "main thread before 0, after 0; a program started then: 0" ] \
  && echo "As stated." || { echo "CHANGED."; exit 1; }
