"""What in a source text writes to the terminal without the functions that escape."""

import ast
from collections.abc import Iterator

STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
NAMES = {"print", "breakpoint"}
CALLED = {"input", "Console", "rich.console.Console"}
"""These names also have harmless uses: a variable, an annotation."""
WAYS = {
    "typer": {"echo", "secho", "confirm", "prompt", "echo_via_pager", "style", "progressbar"},
    "click": {"echo", "secho", "confirm", "prompt", "echo_via_pager", "style", "progressbar"},
    "rich": {"print", "print_json", "inspect", "get_console"},
    "traceback": {"print_exc", "print_exception", "print_stack", "print_tb", "print_last"},
    "getpass": {"getpass"},
    "pprint": {"pprint", "pp"},
    "logging": {"basicConfig", "StreamHandler", "lastResort"},
    "faulthandler": {"enable", "dump_traceback"},
    "sys": STREAMS,
    "os": {"write", "writev"},
}
OF_MODULES = {f"{module}.{name}" for module, names in WAYS.items() for name in names}
DEVICES = {"/dev/tty", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"}
OPENERS = {"open", "os.fdopen", "io.open"}


def raw_output(source: str) -> list[str]:
    """Return each place, as source text, that may print what nobody has escaped."""
    return list(_found(ast.parse(source)))


def _found(top: ast.AST) -> Iterator[str]:
    for node in ast.walk(top):
        match node:
            case ast.Attribute() if ast.unparse(node) in OF_MODULES:
                yield ast.unparse(node)
            case ast.Name(id=name) if name in NAMES:
                yield name
            case ast.ImportFrom(module=module, names=names):
                known = WAYS.get(module or "", set())
                yield from (f"{module}.{each.name}" for each in names if each.name in known)
            case ast.Call(func=called) if ast.unparse(called) in CALLED:
                yield ast.unparse(called)
            case ast.Call() if _opens_output(node) or _exits_with_text(node):
                yield ast.unparse(node)
            case ast.Constant(value=str(text)) if text in DEVICES:
                yield ast.unparse(node)


def _opens_output(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    return (
        ast.unparse(call.func) in OPENERS
        and isinstance(first, ast.Constant)
        and first.value in {1, 2}
    )


def _exits_with_text(call: ast.Call) -> bool:
    """Return whether Python prints the argument of an exit: anything but a code."""
    if ast.unparse(call.func) not in {"SystemExit", "sys.exit"} or not call.args:
        return False
    return isinstance(call.args[0], ast.JoinedStr | ast.Call) or (
        isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    )
