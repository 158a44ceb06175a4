"""The pictures of a study, one file for each kind.

They do not depend on how a user has set up matplotlib, and need no writable folder. Matplotlib reads its settings, and
looks for such a folder, when it is imported, hence the code here.
"""

import importlib.util
import logging
import os
import sys
from pathlib import Path


def _import_matplotlib() -> None:
    """Imports matplotlib with its own settings; leaves the environment, and an imported matplotlib, as they are."""
    spec = importlib.util.find_spec("matplotlib")
    if "matplotlib" in sys.modules or spec is None or spec.origin is None:
        return
    own = {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(Path(spec.origin).parent / "mpl-data" / "matplotlibrc")}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        import matplotlib
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    level = (log := logging.getLogger("matplotlib")).level
    log.setLevel(logging.ERROR)  # no warning that its list of fonts is not kept between processes
    try:
        matplotlib.get_cachedir()
    except OSError:  # neither the home nor a temporary folder can be written
        matplotlib.get_cachedir = matplotlib.get_configdir = lambda: os.devnull
    import matplotlib.font_manager  # noqa: F401 - reads the fonts

    log.setLevel(level)


_import_matplotlib()
