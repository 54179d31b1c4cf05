"""The recipes of a clone, which are in its folder `configs`.

`setup.py` puts them into a package of this name in place of this file.
"""

import pathlib
import types
from typing import TYPE_CHECKING

__path__ = [str(pathlib.Path(__file__).parent.parent / "configs")]

if TYPE_CHECKING:  # A type checker reads no `__path__`.

  def __getattr__(name: str) -> types.ModuleType: ...
