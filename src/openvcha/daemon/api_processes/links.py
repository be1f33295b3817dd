"""The service's links to all processes of the API: one for each, controlled together."""

from collections.abc import Callable, Iterable, Mapping

from openvcha.daemon.api_processes.orders import ApiLink, Orders
from openvcha.node.layout import Layout
from openvcha.node.process.supervised_loop import Work


class ApiLinks:
    """The control of an API that consists of one process, or of a distributor and its workers.

    Each process gets the same orders, and is killed for itself if it does not stop serving.
    """

    def __init__(
        self,
        layout: Layout,
        workers: int,
        orders: Callable[[bool], Orders],
        on_failures: Callable[[Mapping[str, str]], None],
    ) -> None:
        """``on_failures`` gets the failing jobs of all processes, with the reasons."""
        self._on_failures = on_failures
        self._failing: dict[int, Mapping[str, str]] = {}
        self._links = {
            number: ApiLink(layout.api_socket_of(number), orders, self._noting(number))
            for number in processes(workers)
        }

    def serve(self) -> None:
        """Order all processes to serve, including those that connect later."""
        for link in self._links.values():
            link.serve()

    def end(self) -> None:
        """Order all processes to stop serving; kill those that do not."""
        for link in self._links.values():
            link.end()

    def works(self) -> dict[str, Work]:
        """Return the work of each link, by its name."""
        return {_named("API orders", number): link.run for number, link in self._links.items()}

    def _noting(self, number: int) -> Callable[[Mapping[str, str]], None]:
        def note(reasons: Mapping[str, str]) -> None:
            self._failing[number] = {_named(job, number): why for job, why in reasons.items()}
            each = self._failing.values()
            self._on_failures({job: why for failing in each for job, why in failing.items()})

        return note


def processes(workers: int) -> Iterable[int]:
    """Return the numbers of the API's processes: 0 for the main one, and 1 on for its workers."""
    return range(workers + 1 if workers > 1 else 1)


def _named(job: str, number: int) -> str:
    return f"{job} (worker {number})" if number else job
