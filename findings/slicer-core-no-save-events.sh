#!/usr/bin/env bash
# vtkMRMLScene.Commit writes the scene without telling its observers that it is being saved.
#
# Version:   slicer-core 5.12.4.0 (3D Slicer's MRML libraries from PyPI)
# Belief:    Whoever must put something in order before a scene is saved (a layout, a live preview) observes
#            vtkMRMLScene.StartSaveEvent, and EndSaveEvent to undo it, as Import has StartImportEvent and EndImportEvent.
# Behaviour: Commit, which writes the .mrml file, invokes neither. They come only from programs that call
#            StartState(SaveState) and EndState(SaveState) around it, as the application's own dialog does; a script
#            that saves by Commit gets a scene that nobody has put in order. Import does invoke its events.
# Seen:      Commit    returned 1, file written: True, events: []
#            StartState and EndState of SaveState: ['StartSaveEvent', 'EndSaveEvent']
#            Import    returned 1, events: ['StartImportEvent', 'EndImportEvent']
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check slicer-core==5.12.4.0 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import os

from slicer import vtkMRMLModelNode, vtkMRMLScene


def watched(scene, events):
    for name in ("StartSaveEvent", "EndSaveEvent", "StartImportEvent", "EndImportEvent"):
        scene.AddObserver(getattr(vtkMRMLScene, name), lambda *_, name=name: events.append(name))


saved, by_hand, imported = [], [], []
scene = vtkMRMLScene()
scene.AddNode(vtkMRMLModelNode())
watched(scene, saved)
scene.SetURL(os.path.abspath("scene.mrml"))
returned = scene.Commit()
written = os.path.isfile("scene.mrml")
print(f"Commit    returned {returned}, file written: {written}, events: {saved}")

other = vtkMRMLScene()
watched(other, by_hand)
other.StartState(vtkMRMLScene.SaveState)
other.EndState(vtkMRMLScene.SaveState)
print(f"StartState and EndState of SaveState: {by_hand}")

again = vtkMRMLScene()
watched(again, imported)
again.SetURL(os.path.abspath("scene.mrml"))
print(f"Import    returned {again.Import()}, events: {imported}")

as_stated = (
    written
    and saved == []
    and by_hand == ["StartSaveEvent", "EndSaveEvent"]
    and imported == ["StartImportEvent", "EndImportEvent"]
)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
