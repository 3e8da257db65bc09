"""Packages that can be called like the verb they are named after: `ctenhance.enhance(volume)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_VERB = "__verb__"


class CallableModule(ModuleType):
    """A module whose call is the call of one of its functions."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__dict__[_VERB])(*args, **kwargs)


def make_callable(module_name: str, function_name: str) -> None:
    """Make calling the module the same as calling its function `function_name`.

    A verb's package calls this in its own `__init__`: `make_callable(__name__, "enhance")`. The function is
    looked up at each call, so a lazy module `__getattr__` may supply it.
    """
    module = sys.modules[module_name]
    module.__dict__[_VERB] = function_name
    module.__class__ = CallableModule
