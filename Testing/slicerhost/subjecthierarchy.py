"""What the application's subject hierarchy plugins do: an item for every node that the user sees."""

from __future__ import annotations

from typing import Any

import slicer

_SHOWN = ("vtkMRMLDisplayableNode", "vtkMRMLTextNode", "vtkMRMLTableNode")


def follow(scene: Any) -> None:
    """Give the scene's nodes their items when they come, and take them away when they go."""
    import vtk

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(_scene: Any, _event: str, node: Any) -> None:
        if any(node.IsA(name) for name in _SHOWN) and not node.GetHideFromEditors():
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
            if not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def removed(_scene: Any, _event: str, node: Any) -> None:
        if scene.IsClosing() or not any(node.IsA(name) for name in _SHOWN):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)

    scene.AddObserver(scene.NodeAddedEvent, added)
    scene.AddObserver(scene.NodeRemovedEvent, removed)
