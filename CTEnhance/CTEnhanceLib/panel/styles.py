"""What all widgets of the panels have to do: be read on light and on dark themes, be reached by key, and have
a name for those who have the screen read out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import qt
import slicer

from CTEnhanceLib.panel.decimals import takeCommas

# Each stands out of its theme's ground by 4.5 : 1 or more.
_LIGHT = {"warning": "#9A4200", "failure": "#B01818", "current": "#1B5E9E"}
_DARK = {"warning": "#FFB366", "failure": "#FF9C9C", "current": "#8EC5FF"}
# Pixels; by itself a button asks for more than its words, and four in a row would not fit.
_LEAST_WIDTH = 24
Color = tuple[int, ...]
# WCAG's least contrast of words is 4.5; styles shade the grounds of buttons and lists.
_LEAST_CONTRAST, _STEPS = 6.5, 64
# Roles of words, and the grounds on which they stand.
_DISABLED = {
    qt.QPalette.WindowText: (qt.QPalette.Window,),
    qt.QPalette.ButtonText: (qt.QPalette.Button, qt.QPalette.Window),
    qt.QPalette.Text: (qt.QPalette.Base, qt.QPalette.Window, qt.QPalette.Button),
}
# Slicer's name of what stands above all modules.
_HEAD = "HelpCollapsibleButton"
# Widgets with parts that take the keys, and all that say nothing of themselves; by name, as to PythonQt no
# class of Qt's is derived from another one.
_COMPOSED = ("qMRMLNodeComboBox", "ctkSliderWidget", "ctkPathLineEdit")
_WORDLESS = (*_COMPOSED, "QComboBox", "QLineEdit", "QAbstractSpinBox", "QToolButton", "QTextEdit")
# Styles draw a pressed button hardly differently, on dark themes not at all.
_PRESSED = (
    "QPushButton:checked { background-color: #1F5FA8; color: #FFFFFF; border: 1px solid #123A66; "
    "border-radius: 3px; padding: 3px 6px; }"
    "QPushButton:checked:focus { border: 2px solid #FFC83D; padding: 2px 5px; }"
    "QPushButton:checked:disabled { background-color: #5F7185; }"
)


def warning() -> str:
    """Return the style sheet of a sentence that warns, on the theme that is on now."""
    return f"color: {_colors()['warning']}; font-weight: bold;"


def failure() -> str:
    """Return the style sheet of a sentence that says what went wrong."""
    return f"color: {_colors()['failure']};"


def current() -> str:
    """Return the style sheet of the words that the keys are for now."""
    return f"color: {_colors()['current']}; font-weight: bold;"


def prepareWidgets(widgets: Any) -> None:
    """Let the buttons among the widgets be as narrow as their words, and those that stay pressed look so; let
    the key Tab come to lists of nodes, whose inner list gives its focus to a widget that takes none; and let
    numbers be typed with a comma; and name what has no words of its own."""
    widgets = list(widgets)
    _name(widgets)
    staying = _staying(_palette())
    takeCommas(each for each in widgets if hasattr(each, "findChildren"))
    for widget in widgets:
        if _is(widget, _COMPOSED[:1]):
            for box in widget.findChildren(qt.QComboBox):
                box.setFocusProxy(None)
        if isinstance(widget, qt.QPushButton):
            widget.minimumWidth = max(widget.minimumWidth, _LEAST_WIDTH)
            if widget.checkable:
                widget.styleSheet = staying


def _name(widgets: Sequence[Any]) -> None:
    """Name lists, fields and sliders after their labels, or by what their tips begin with."""
    labels = [widget for widget in widgets if isinstance(widget, qt.QLabel) and widget.buddy() is not None]
    names = {label.buddy().objectName: label.text.rstrip(": ") for label in labels}
    for widget in widgets:
        if _is(widget, _WORDLESS) and not widget.accessibleName:
            tip = re.sub("<[^>]*>", "", widget.toolTip)  # some are rich text
            name = names.get(widget.objectName) or re.split(r"[.:;](?:\s|$)| \(", tip)[0]
            inner = widget.findChildren(qt.QWidget) if _is(widget, _COMPOSED) else ()
            for part in (widget, *inner):
                part.accessibleName = name


def _is(widget: Any, kinds: Sequence[str]) -> bool:
    return hasattr(widget, "inherits") and any(widget.inherits(kind) for kind in kinds)


def orderTabs(roots: Sequence[Any]) -> None:
    """Have the key Tab go through the panel's widgets in their order, after the head of Slicer's module
    panel: by itself it goes from there through tool bars and views first."""
    window = roots[0].window()
    before = window.findChild(qt.QWidget, _HEAD)
    for part in (part for root in roots for part in root.findChildren(qt.QWidget)):
        stops = part.focusPolicy & qt.Qt.TabFocus and part.focusProxy() is None
        if stops and part.window() == window:  # not those of a list that unfolds
            if before is not None:
                qt.QWidget.setTabOrder(before, part)
            before = part


def prepareColors(roots: Any, widgets: Any) -> None:
    """Have all words of a panel be read on the theme that is on now: of what cannot be used at the moment,
    which by itself is three times paler than that takes, and of what stands in empty fields."""
    palette = _palette()
    staying = _staying(palette)
    for root in roots:
        root.setPalette(palette)
    for widget in widgets:
        if isinstance(widget, qt.QLineEdit):
            widget.setPalette(palette)
        elif isinstance(widget, qt.QPushButton) and widget.checkable:
            widget.styleSheet = staying


def _staying(palette: Any) -> str:
    """Return the style sheet of buttons that stay pressed; widgets with one ask no palette."""
    off = palette.color(qt.QPalette.Disabled, qt.QPalette.ButtonText).name()
    return f"QPushButton:!checked:disabled {{ color: {off}; }}{_PRESSED}"


def _palette() -> Any:
    """Return the application's palette, in which what is off, chosen or in empty fields can be read."""
    palette = qt.QPalette(slicer.app.palette())
    for words, grounds in _DISABLED.items():
        text, *under = (_rgb(palette.color(qt.QPalette.Active, role)) for role in (words, *grounds))
        palette.setColor(qt.QPalette.Disabled, words, qt.QColor(*readable(text, under)))
    text, ground = (_rgb(palette.color(role)) for role in (qt.QPalette.Text, qt.QPalette.Base))
    palette.setColor(qt.QPalette.PlaceholderText, qt.QColor(*readable(text, [ground])))
    chosen = _rgb(palette.color(qt.QPalette.Highlight))  # white on light blue, in Slicer's dark theme
    words = max(((0, 0, 0), (255, 255, 255)), key=lambda each: contrast(each, chosen))
    palette.setColor(qt.QPalette.HighlightedText, qt.QColor(*words))
    return palette


def readable(text: Color, grounds: Sequence[Color]) -> Color:
    """Return the palest colour between that of words and their grounds that is read on all of these."""
    for part in range(_STEPS + 1):
        mixed = tuple(
            round(ground + (word - ground) * part / _STEPS)
            for word, ground in zip(text, grounds[0], strict=True)
        )
        if all(contrast(mixed, ground) >= _LEAST_CONTRAST for ground in grounds):
            return mixed
    return text


def contrast(one: Color, other: Color) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Color) -> float:
    parts = [part / 255 for part in color]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _rgb(color: Any) -> Color:
    return color.red(), color.green(), color.blue()


def _colors() -> dict[str, str]:
    ground = slicer.app.palette().color(qt.QPalette.Window)
    return _DARK if ground.lightness() < 128 else _LIGHT
