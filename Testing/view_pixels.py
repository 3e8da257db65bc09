"""What a slice view of the test host shows, as an array: for tests and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np


def pixels(view: Any) -> np.ndarray:
    """Render a slice view; return [row, column, RGB], from the top."""
    import vtk
    from vtk.util import numpy_support

    from CTEnhanceLib.views.drawing import oneByOne

    oneByOne.finish()
    view.forceRender()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.renderWindow())
    grab.ReadFrontBufferOff()
    grab.Update()
    columns, rows, _ = grab.GetOutput().GetDimensions()
    scalars = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return scalars.reshape(rows, columns, -1)[::-1, :, :3].copy()
