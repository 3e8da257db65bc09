"""The models of a method by name, and the drop-down list that offers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ctenhance.runtime import weights
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.scene.modelnames import plainName


@dataclass(frozen=True)
class Model:
    """A model: what `--model` takes, its name for people, what it was trained on, in a line what it does."""

    key: str
    text: str
    explanation: str
    does: str = ""


def installedModels(verb: str, architectures: Iterable[str]) -> list[Model]:
    """Return the models of these architectures, the verb's default one first.

    Raises InputError for a broken registry.
    """
    entries = [entry for entry in weights.entries() if entry.architecture in set(architectures)]
    try:
        default = weights.default_name(verb)
    except InputError:  # none is marked
        default = ""
    entries.sort(key=lambda entry: entry.name != default)
    found = []
    for entry in entries:
        text, does = plainName(entry.name)
        text = _("{name} (default)").format(name=text) if entry.name == default else text
        explanation = _("{name}, version {version}, {licence}. Trained on {data}.").format(
            name=entry.name, version=entry.version, licence=entry.licence, data=entry.trained_on
        )
        found.append(Model(entry.name, text, f"{does} {explanation}".strip(), does))
    return found


def modelFromFile(path: str) -> Model:
    """Return a weights file as a model; whether it is one, the worker checks."""
    return Model(path, Path(path).stem, _("From the file {path}").format(path=path))


def select(selector: Any, data: str) -> None:
    """Select the entry with these data; what a saved scene names and is not here becomes an entry.

    Empty data select the first entry.
    """
    if not data:
        selector.currentIndex = 0 if selector.count else -1
        return
    if selector.findData(data) < 0:
        selector.addItem(Path(data).name, data)
    selector.currentIndex = selector.findData(data)


class ModelChoice:
    """Fills a QComboBox with a verb's models, and lets a button add a weights file.

    `onChosen(key)` is called when the user chooses one; `follow(key)` shows a parameter node's.
    """

    def __init__(
        self, selector: Any, browseButton: Any, verb: str, architectures: Iterable[str],
        onChosen: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._selector, self._onChosen = selector, onChosen
        self._does: dict[str, str] = {}
        self._following = False
        self._problem = ""
        try:
            for model in installedModels(verb, architectures):
                self._add(model)
        except CTEnhanceError as error:
            self._problem = str(error)
        selector.connect("currentIndexChanged(int)", self._onIndex)
        browseButton.connect("clicked()", self._onBrowse)

    def reason(self) -> str:
        """Return the sentence that says why no model can be used, or an empty one."""
        if self._selector.count:
            return ""
        return self._problem or _(
            "No model is installed: choose a weights file (.safetensors) with the button beside the list."
        )

    def model(self) -> str | None:
        """Return name or path of the model that the list shows, or None when it is empty."""
        selector = self._selector
        return selector.itemData(selector.currentIndex) if selector.count else None

    def does(self) -> str:
        """Return in a line what the model does that the list shows; empty where nobody has said it."""
        return self._does.get(self.model() or "", "")

    def follow(self, key: str) -> None:
        """Show this model; an empty key stands for the default."""
        self._following = True
        try:
            select(self._selector, key)
        finally:
            self._following = False

    def setFile(self, path: str) -> None:
        """Offer a weights file among the models, and choose it."""
        if self._selector.findData(path) < 0:
            self._add(modelFromFile(path))
        self._onChosen(path)

    def _add(self, model: Model) -> None:
        self._does[model.key] = model.does
        self._selector.addItem(model.text, model.key)
        self._selector.setItemData(self._selector.count - 1, model.explanation, qt.Qt.ToolTipRole)

    def _onIndex(self, index: int) -> None:
        if index >= 0 and not self._following:
            self._onChosen(self._selector.itemData(index))

    def _onBrowse(self) -> None:
        filters = _("Weights") + " (*.safetensors)"
        path = qt.QFileDialog.getOpenFileName(self._selector, _("Weights file"), "", filters)
        if path:
            self.setFile(path)
