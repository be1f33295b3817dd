"""structlog without rich, which it would load to draw tracebacks in a terminal.

None of our programs has structlog draw any: their lines are JSON, or go through
`cli/output/console.py`.
Each of them would load rich, with pygments, for nothing: a tenth of a second, and 8 MB for good.
What the command line draws itself finds rich afterwards as ever.
"""

import sys

__all__ = ["structlog"]

_RICH = "rich"
_hides = _RICH not in sys.modules
if _hides:
    sys.modules[_RICH] = None  # type: ignore[assignment]  # so Python spells "cannot be imported"
try:
    import structlog  # noqa: TID251 - here
finally:
    if _hides:
        del sys.modules[_RICH]
