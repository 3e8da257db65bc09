"""Where a result stands in the scene: beside its input in the subject hierarchy, with its report attached.

Node references of the result say what belongs together, so that survives saving and loading the scene:
its input, its report (a text node) and the full effect, from which other strengths are blended. The full
effect is hidden and not saved; without it, another strength needs another run.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.scene import bodywindows, units
from CTEnhanceLib.scene.volumes import copyGrid

INPUT_ROLE = "CTEnhanceInput"
FULL_ROLE = "CTEnhanceFullEffect"
TRUST_ROLE = "CTEnhanceTrustMap"
REPORT_ROLE = "CTEnhanceReport"
SINOGRAM_ROLE = "CTEnhanceSinogram"
# Hidden, too, but several and saved, so that they carry no mark: the maps that low-noise images are made of.
GUIDED_ROLE = "CTDecomposeGuidedMap"


def inputOf(result: Any) -> Any:
    """Return the node that a result was made from or is compared with, or None."""
    return result.GetNodeReference(INPUT_ROLE) if result is not None else None


def fullEffectOf(result: Any) -> Any:
    """Return the hidden node that holds the full effect, or None."""
    return hiddenNode(result, FULL_ROLE)


def trustMapOf(result: Any) -> Any:
    """Return the node with the error that is to be expected of the full effect (± HU in 90 %), or None."""
    return result.GetNodeReference(TRUST_ROLE) if result is not None else None


def hiddenNode(result: Any, role: str) -> Any:
    """Return the hidden node that the result has in this role, or None.

    Hidden nodes are not saved, and in a loaded scene another node may have got the identifier that a
    reference still names. So both carry the same mark, and only such a pair counts.
    """
    node = result.GetNodeReference(role) if result is not None else None
    return node if node is not None and node.GetAttribute(role) == result.GetAttribute(role) else None


def referToHidden(result: Any, role: str, node: Any) -> None:
    """Make `node` the hidden node that the result has in this role."""
    mark = uuid.uuid4().hex
    node.SetAttribute(role, mark)
    result.SetAttribute(role, mark)
    result.SetNodeReferenceID(role, node.GetID())


def reportOf(result: Any) -> dict[str, Any] | None:
    """Return the report of a result, or None."""
    node = result.GetNodeReference(REPORT_ROLE) if result is not None else None
    try:
        return None if node is None else json.loads(node.GetText())
    except ValueError:
        return None


def hasStrength(result: Any) -> bool:
    """Say whether a result's report tells of a strength."""
    return "strength" in ((reportOf(result) or {}).get("settings") or {})


def strengthOf(result: Any) -> float:
    """Return the strength that a result's voxels have, by its report; 1 if that does not say."""
    try:
        return float((reportOf(result) or {})["settings"]["strength"])
    except (KeyError, TypeError, ValueError):
        return 1.0


def keptFaint(result: Any) -> bool:
    """Say whether a result's report tells that faint structures were kept."""
    return bool(((reportOf(result) or {}).get("settings") or {}).get("keep_faint"))


def choosable() -> list[Any]:
    """Return the volumes of the scene that the user can choose as a CT: visible, with voxels, not in another
    unit than HU."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData() is not None
        and units.mayBeHounsfield(node)
    ]


def originals() -> list[Any]:
    """Return the volumes of the scene that the user can choose and no run of ours has made."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    results = {node for node in nodes if inputOf(node) is not None or reportOf(node) is not None}
    for node in list(results):
        roles = [node.GetNthNodeReferenceRole(index) for index in range(node.GetNumberOfNodeReferenceRoles())]
        for role in roles:
            if role.startswith(("CTReconstruct", "CTDecompose", TRUST_ROLE)):
                count = node.GetNumberOfNodeReferences(role)
                results |= {node.GetNthNodeReference(role, index) for index in range(count)}
    return [node for node in choosable() if node not in results]


@contextlib.contextmanager
def whole() -> Iterator[list[Any]]:
    """All or nothing: nodes put into the list (see `addNode`) are removed again if the block raises, or the
    steps that it is in are closed."""
    added: list[Any] = []
    try:
        yield added
    except BaseException:
        for node in reversed(added):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        raise


def requireAll(added: Iterable[Any]) -> None:
    """Raise CTEnhanceError unless all of these nodes are in the scene still: it may change between steps."""
    if not all(map(slicer.mrmlScene.IsNodePresent, added)):
        raise CTEnhanceError(_("The scene was changed meanwhile, so no result was added; press Apply again."))


def addNode(className: str, name: str, added: list[Any], hidden: bool = False) -> Any:
    """Add a node to the scene and to the list; return it."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)  # the Python variable holds it now, and soon the scene
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    if hidden:
        hide(node)
    added.append(slicer.mrmlScene.AddNode(node))
    return added[-1]


def addVolume(
    image: vtk.vtkImageData,
    ijkToRAS: np.ndarray,
    name: str,
    added: list[Any],
    before: Any = None,
    output: Any = None,
) -> Any:
    """Put a loaded volume into the scene (`output` takes it if given) with a display; return its node.

    `before` is the volume that it is compared with: it stands beside that one and shares its display, so
    that window and level are the same for both.
    """
    node = output if output is not None else addNode("vtkMRMLScalarVolumeNode", name, added)
    with slicer.util.NodeModify(node):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS))
        node.SetAndObserveImageData(image)
        if before is not None:
            node.SetAndObserveDisplayNodeID(_fixedDisplay(before).GetID())
            node.SetNodeReferenceID(INPUT_ROLE, before.GetID())
            placeBeside(before, node)
        elif node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            added.append(node.GetDisplayNode())
    return node


def addFixedDisplay(node: Any, added: list[Any]) -> Any:
    """Give a node without an image a display with a fixed window; return that.

    An automatic one would be computed over all voxels at once, while the user waits.
    """
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    added.append(display)
    display.SetAutoWindowLevel(False)
    return display


def attachReport(node: Any, report: Mapping[str, Any], added: list[Any]) -> None:
    """Put the report, as a text node, under the node in the subject hierarchy; replaces the one before."""
    reportNode = node.GetNodeReference(REPORT_ROLE)
    if reportNode is None:
        reportNode = addNode("vtkMRMLTextNode", _("{name} report").format(name=node.GetName()), added)
        node.SetNodeReferenceID(REPORT_ROLE, reportNode.GetID())
    reportNode.SetText(json.dumps(report, indent=2, ensure_ascii=False))
    placeUnder(node, reportNode)


def addResult(
    inputNode: Any,
    outputNode: Any,
    name: str,
    image: vtk.vtkImageData,
    full: vtk.vtkImageData,
    report: Mapping[str, Any],
    trust: vtk.vtkImageData | None = None,
) -> Any:
    """Put a finished result into the scene, all of it or nothing, and return its node.

    `outputNode` takes it, or a new node called `name` when it is None. It stands on the input's grid and
    under its transform; both share the input's display node. `trust` is its trust map; a former one goes. A
    node that was something else before is parted from the file and the DICOM instances that it came from:
    what is saved next must not replace these.
    """
    other = outputNode is not None and outputNode.GetImageData() is not None and reportOf(outputNode) is None
    with whole() as added:
        display = _fixedDisplay(inputNode)
        output = outputNode
        if output is None:
            output = addNode("vtkMRMLScalarVolumeNode", name, added)
        fullNode = fullEffectOf(output)
        if fullNode is None:
            fullName = _("{name} full effect").format(name=output.GetName())
            fullNode = addNode("vtkMRMLScalarVolumeNode", fullName, added, hidden=True)
        attachReport(output, report, added)
        for node, values in ((fullNode, full), (output, image)):
            with slicer.util.NodeModify(node):
                copyGrid(inputNode, node)
                node.SetAndObserveImageData(values)
                node.SetAndObserveDisplayNodeID(display.GetID())
        output.SetNodeReferenceID(INPUT_ROLE, inputNode.GetID())
        referToHidden(output, FULL_ROLE, fullNode)
        if other:
            _part(output)
        placeBeside(inputNode, output)
        former = trustMapOf(output)
        if trust is not None:
            _attachTrustMap(output, trust, added)
            former = None
    if former is not None:  # it tells of another image
        output.SetNodeReferenceID(TRUST_ROLE, None)
        removeNodes([former])
    return output


def _attachTrustMap(result: Any, image: vtk.vtkImageData, added: list[Any]) -> None:
    node = trustMapOf(result)
    if node is None:
        mapName = _("{name} trust map").format(name=result.GetName())
        node = addNode("vtkMRMLScalarVolumeNode", mapName, added)
        addFixedDisplay(node, added)
        units.setUnits(node, units.EXPECTED_ERROR)
    with slicer.util.NodeModify(node):
        copyGrid(result, node)
        node.SetAndObserveImageData(image)
    result.SetNodeReferenceID(TRUST_ROLE, node.GetID())
    placeUnder(result, node)


def _part(node: Any) -> None:
    """Part a node from the file and the DICOM series that it came from."""
    hierarchy = _hierarchy()
    node.SetAndObserveStorageNodeID(None)
    node.RemoveAttribute("DICOM.instanceUIDs")
    hierarchy.RemoveItem(_item(hierarchy, node), False, False)  # it gets another one, without the series' UID


def setReportedStrength(result: Any, strength: float) -> None:
    """Write the strength that the result's voxels have now into its report."""
    node, report = result.GetNodeReference(REPORT_ROLE), reportOf(result)
    if node is not None and isinstance(report, dict):
        report.setdefault("settings", {})["strength"] = round(strength, 4)
        node.SetText(json.dumps(report, indent=2, ensure_ascii=False))


def placeBeside(node: Any, result: Any) -> None:
    """Put the result into the folder or study in which the node is."""
    hierarchy = _hierarchy()
    parent = hierarchy.GetItemParent(_item(hierarchy, node))
    hierarchy.SetItemParent(_item(hierarchy, result), parent)


def placeTogether(nodes: Iterable[Any], name: str) -> None:
    """Put the nodes into a new folder of this name."""
    hierarchy = _hierarchy()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
    for node in nodes:
        hierarchy.SetItemParent(_item(hierarchy, node), folder)


def placeUnder(node: Any, attachment: Any) -> None:
    """Put the attachment under the node."""
    hierarchy = _hierarchy()
    hierarchy.SetItemParent(_item(hierarchy, attachment), _item(hierarchy, node))


def _hierarchy() -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _item(hierarchy: Any, node: Any) -> int:
    item = hierarchy.GetItemByDataNode(node)
    return item or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def hide(node: Any) -> None:
    """Keep the node out of selectors, the subject hierarchy and saved scenes; before it is added."""
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)


def _fixedDisplay(node: Any) -> Any:
    """Return the node's display with window and level that stay as they are."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    # An automatic window would be computed anew, over all voxels, for each volume that shares the display. It
    # shows no tissue well, either. A window that the reader has set is kept.
    bodywindows.begin(node)
    display.SetAutoWindowLevel(False)
    return display


def dependentsOf(node: Any) -> list[Any]:
    """Return the nodes that mean nothing without this one: full effect, sinogram, guided maps, trust map."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
        return []
    found = [hiddenNode(node, role) for role in (FULL_ROLE, SINOGRAM_ROLE)]
    count = node.GetNumberOfNodeReferences(GUIDED_ROLE)
    found += [node.GetNthNodeReference(GUIDED_ROLE, index) for index in range(count)]
    found.append(trustMapOf(node))
    return [each for each in found if each is not None]


def removeNodes(nodes: Iterable[Any]) -> None:
    """Remove those of the nodes, with their own displays, that are still in the scene."""
    for node in nodes:
        if slicer.mrmlScene.IsNodePresent(node):
            display = node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(node)
            # The full effect shares its display with input and result.
            others = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if display is not None and all(other.GetDisplayNode() is not display for other in others):
                slicer.mrmlScene.RemoveNode(display)
