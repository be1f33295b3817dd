"""structlog without rich, which it would import to draw tracebacks in a terminal.

None of our programs lets structlog draw tracebacks: they log JSON, or through
`cli/output/console.py`. Each of them would import rich, with pygments, for nothing: a tenth of a
second, and 8 MB for as long as it runs. The command line's own output can still import rich.
"""

import sys

__all__ = ["structlog"]

_RICH = "rich"
_hides = _RICH not in sys.modules
if _hides:
    sys.modules[_RICH] = None  # type: ignore[assignment]  # makes its import fail
try:
    import structlog  # noqa: TID251 - the only direct import
finally:
    if _hides:
        del sys.modules[_RICH]
