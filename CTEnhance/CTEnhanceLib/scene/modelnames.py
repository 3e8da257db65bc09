"""What models are called for people: in the lists of the panels, and over the images."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.scene import placing


def plainName(name: str) -> tuple[str, str]:
    """Return what a model is called for people, and a sentence on what it does; any other keeps its name."""
    return {
        "enhance-twin": (
            _("Standard"),
            _("One pass over each slice: the fastest, also without a graphics card."),
        ),
        "enhance-diffusion": (
            _("Diffusion"),
            _("Several passes from noise to image: slower, and meant for a graphics card."),
        ),
        "enhance-detail": (
            _("Detail"),
            _("One pass that sharpens edges of high contrast (lung, bone), and smooths what is faint."),
        ),
        "reconstruct-projection": (_("Standard"), _("Takes noise out of the projections.")),
        "reconstruct-image": (
            _("Standard"),
            _("Takes noise out of the image, guided by FBP and projections."),
        ),
    }.get(name, (name, ""))


def modelOf(node: Any) -> str | None:
    """Return the technical name of the model that made a volume, by its report; None without one."""
    name = ((placing.reportOf(node) or {}).get("model") or {}).get("name")
    return None if name is None else str(name)


def titleOf(node: Any) -> str:
    """Return a volume's name as images have it: with what people call its model."""
    title, model = str(node.GetName()), modelOf(node)
    return title if model is None else title.replace(f"({model})", f"({plainName(model)[0]})")
