"""The recipes of a clone, which are in its folder `configs`.

`setup.py` puts them into a package of this name in place of this file.
"""

import pathlib

__path__ = [str(pathlib.Path(__file__).parent.parent / "configs")]
