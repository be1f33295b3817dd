"""No background task ends silently: each is supervised, or its end is awaited."""

import ast
from pathlib import Path

import openvcha

SUPERVISING = ("run_forever(", "self._forever(")
#: Tasks that end by themselves or are awaited by their creator, so that their errors are seen.
AWAITED = {
    ("cli/node/programs.py", "work"),
    ("system/single_flight.py", "self._begin()"),  # the callers get what it raises
    ("events/audit.py", "self.record_omitted()"),  # a failure to store is logged there
    ("lab/demo.py", "writer.run(stop)"),
    ("lab/up.py", "make_users(lab, Path(nodes[0][0].directory))"),
    ("node/address/forwarder.py", "pipe"),
    ("node/address/forwarder.py", "self._forward(connection, client)"),
    ("node/address/interface/helper.py", "server.serve(listener)"),
    ("node/address/interface/helper.py", "stop.wait()"),
    ("node/address/interface/holder.py", "self._keep_telling(holding.packets)"),  # until it lets go
    ("node/address/interface/holder.py", "self._listen(holding.packets)"),  # a refresh sees its end
    ("node/address/interface/holder.py", "self._listen(packets)"),
    ("node/process/spawn.py", "_pump(read_end, on_line)"),
    ("node/process/managed_process.py", "self._keep()"),  # catches errors of starting and watching
    ("node/process/managed_process.py", "self._open(gate)"),
    ("node/background/required_votes.py", "watch"),  # its end ends the job, which is supervised
    ("node/service_manager/notify.py", "self._beat()"),  # systemd notices its end
    ("node/supervisor/supervisor.py", "asked"),
    ("node/supervisor/supervisor.py", "run_jobs(view)"),  # only supervised jobs
    ("node/supervisor/supervisor.py", "self._start_parts(stack, store, control)"),
    ("node/supervisor/supervisor.py", "stop.wait()"),
    ("api_server/server/accept.py", "self._begin(accepted, client)"),  # asyncio logs what it raises
    ("api_server/server/https.py", "server.ready.wait()"),
    ("api_server/server/https.py", "server.serve(sockets=[listener])"),
    ("api_server/stream.py", "_disconnected(request)"),
    ("api_server/stream.py", "self._pump(call, after, stopping, send)"),
    ("daemon/api_processes/ordered_api.py", "self._work()"),  # only supervised work
    ("daemon/leading/active_services.py", "self._work()"),  # only supervised work
    ("daemon/bootstrap.py", "receive_files(call, retry=_try_again, tell=progress.tell)"),
    ("daemon/bootstrap.py", "stop.wait()"),
    ("daemon/leading/leadership.py", "self._changed.wait()"),
    ("daemon/leading/leadership.py", "self._check()"),
    ("daemon/api_processes/orders.py", "_report_forever(writer, lambda: report(number))"),
    ("node/postgres/superuser.py", "connection.execute('checkpoint')"),
    ("node/postgres/superuser.py", "self._silence(host)"),
    ("store/mirror.py", "self._renew()"),  # its end ends what follows, which is supervised
    ("store/lease.py", "self._keep(expires)"),  # its end, for any reason, is the loss of the hold
    ("operations/steps/creation/create_node.py", "self._register(ctx, node)"),
    ("tasks/runner.py", "work"),
    ("tasks/steps.py", "self.canceled.wait()"),
    ("tasks/steps.py", "work"),
}
#: Loops that end, so that ``system.repeating.repeat`` does not suit them.
OTHERWISE = {
    ("daemon/leading/active_services.py", "retry_until_free"): "ends once it has succeeded",
    (
        "daemon/api_processes/orders.py",
        "receive_orders",
    ): "yields that nobody orders, each time that it fails",
    ("node/address/interface/server.py", "_answer_all"): "ends with its client, or its error",
    ("node/background/rotation_runner.py", "_until"): "ends once it has succeeded",
    ("node/postgres/standby_data/base_backup.py", "run"): "ends once it has succeeded, or gives up",
    (
        "node/postgres/standby_data/base_backup.py",
        "first_base_backup",
    ): "ends once there is space, with how the base backup ended",
    ("node/process/supervised_loop.py", "run_forever"): "is what supervises",
    ("node/recovery/recovery.py", "_stand_alone"): "ends once it has succeeded, or gives up",
    ("store/lease.py", "_renew"): "ends once it has succeeded, or the hold is lost",
    ("store/lease.py", "campaign"): "ends once the key is held",
}
WITH_A_PERSON = ("cli", "lab", "client")
"""Rooms in which somebody waits, and sees each line."""


def _tasks() -> set[tuple[str, str]]:
    """Return every task that is created, by its file and what it runs."""
    root = Path(openvcha.__path__[0])
    return {
        (str(path.relative_to(root)), ast.unparse(_meant(tree, node)))
        for path in root.rglob("*.py")
        for tree in [ast.parse(path.read_text())]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_task")
    }


def _meant(tree: ast.Module, call: ast.Call) -> ast.expr:
    """Resolve a name to the call of ``run_forever`` that it was passed to."""
    given = call.args[0]
    if isinstance(given, ast.Name):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign) or ast.unparse(node.targets[0]) != given.id:
                continue
            if ast.unparse(node.value).startswith(SUPERVISING):
                return node.value
    return given


def test_each_background_task_is_supervised_or_awaited() -> None:
    """A new one belongs in ``run_forever`` or, if its end is awaited, in the list above."""
    found = _tasks()
    loose = {(file, run) for file, run in found if not run.startswith(SUPERVISING)}
    assert loose - AWAITED == set()
    assert AWAITED - loose == set(), "these are there no more"
    assert len(found) - len(loose) >= 5


def _loops() -> set[tuple[str, str]]:
    """Return the loops that retry for ever with a pause: file and function."""
    root = Path(openvcha.__path__[0])
    return {
        (str(path.relative_to(root)), function.name)
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] not in WITH_A_PERSON
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.AsyncFunctionDef)
        for loop in ast.walk(function)
        if isinstance(loop, ast.While) and ast.unparse(loop.test) == "True" and _retries(loop)
    }


def _retries(loop: ast.While) -> bool:
    inside = list(ast.walk(loop))
    catches = any(isinstance(node, ast.Try) and node.handlers for node in inside)
    calls = (ast.unparse(node.func) for node in inside if isinstance(node, ast.Call))
    return catches and any(name.endswith("sleep") for name in calls)


def test_what_is_tried_for_ever_is_repeated_by_one_function() -> None:
    """A new loop belongs in ``repeat``; one of another kind, in the list above."""
    assert _loops() == OTHERWISE.keys()
