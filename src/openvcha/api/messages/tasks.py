"""Tasks."""

TASKS = {
    "task.not.found": "There is no task %s.",
    "task.filter.empty": "Set tasks, services or both.",
    "task.filter.too.many": "More than %s tasks match; narrow the filter.",
    "task.not.cancelable": "Task %s cannot be canceled.",
    "task.canceled": "The task was canceled.",
    "task.busy": "Operation %s is running as task %s.",
    "task.concurrent": "The cluster changed while the request was being checked; try again.",
    "task.forged": "Task %s was not written by a data node of this cluster.",
    "task.unreadable": "The record of task %s cannot be read; see the log.",
    "task.finished": "Task %s has already ended: %s.",
    "task.cancel.never": "Operation %s cannot be canceled once it has been accepted.",
    "task.cancel.step": "Step %s must not be interrupted; try again when it has ended.",
    "task.cancel.undoing": "The task is already being rolled back.",
    "task.step": "Step %s of %s: %s.",
    "task.step.limit": "Step %s did not finish within %s seconds.",
    "task.step.patience": (
        "Step %s was retried for %s seconds; the next message has the last reason."
    ),
    "task.succeeded": "Done.",
    "task.undoing": "Rolling back step %s.",
    "task.undo.failed": "Step %s could not be rolled back; the next message has the reason.",
    "task.arguments.large": "The arguments take %s bytes; a task stores at most %s.",
    "task.undo.unknown": "Step %s was not rolled back: this version does not know it.",
    "task.left": "These steps were left as they are: %s.",
    "task.standalone": "The task ended with its cluster: node %s was made stand-alone.",
    "task.plan.unknown": "This version cannot run %s.",
    "task.error.large": "The error was too large to store; see the log.",
}
