"""What the panels' colours have to do on light and on dark themes: be read."""

from __future__ import annotations

from typing import Any

import qt
import slicer

# Each stands out of its theme's ground by 4.5 : 1 or more.
_LIGHT = {"warning": "#9A4200", "failure": "#B01818", "current": "#1B5E9E"}
_DARK = {"warning": "#FFB366", "failure": "#FF9C9C", "current": "#8EC5FF"}
# Pixels; by itself a button asks for more than its words, and four in a row would not fit.
_LEAST_WIDTH = 24
# How far what stands in empty fields is from their ground towards the colour of words.
_PLACEHOLDER = 0.65
# Styles draw a pressed button hardly differently, on dark themes not at all.
_PRESSED = (
    "QPushButton:checked { background-color: #1F5FA8; color: #FFFFFF; border: 1px solid #123A66; "
    "border-radius: 3px; padding: 3px 6px; }"
    "QPushButton:checked:focus { border: 2px solid #FFC83D; padding: 2px 5px; }"
    "QPushButton:checked:disabled { background-color: #7A8CA0; }"
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


def prepareButtons(widgets: Any) -> None:
    """Let the buttons among the widgets be as narrow as their words, and those that stay pressed look so."""
    for widget in widgets:
        if isinstance(widget, qt.QPushButton):
            widget.minimumWidth = max(widget.minimumWidth, _LEAST_WIDTH)
            if widget.checkable:
                widget.styleSheet = _PRESSED


def prepareFields(widgets: Any) -> None:
    """Have what stands in empty fields among the widgets be read: by itself it is half as dark as words."""
    for widget in widgets:
        if isinstance(widget, qt.QLineEdit):
            palette = qt.QPalette(slicer.app.palette())
            text, ground = (palette.color(role) for role in (qt.QPalette.Text, qt.QPalette.Base))
            parts = [
                round(_PLACEHOLDER * one + (1 - _PLACEHOLDER) * other)
                for one, other in zip(_rgb(text), _rgb(ground), strict=True)
            ]
            palette.setColor(qt.QPalette.PlaceholderText, qt.QColor(*parts))
            widget.setPalette(palette)


def _rgb(color: Any) -> tuple[int, int, int]:
    return color.red(), color.green(), color.blue()


def _colors() -> dict[str, str]:
    ground = slicer.app.palette().color(qt.QPalette.Window)
    return _DARK if ground.lightness() < 128 else _LIGHT
