"""The unmodified official SDK against a real TLS server."""

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from tests.support.edge import ADMINISTRATOR, BEGINNING, PASSWORD, Served

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import by_id
from openvcha.api.structures import CertificateInfo, DynamicID, TaskInfo, TaskProgress, TaskStatus
from openvcha.api.types import Opaque

# The SDK reads its own messages in a way that Python has deprecated; that warning is not ours.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from com.vmware.cis.task_client import Status
    from com.vmware.cis_client import Tasks
    from com.vmware.vapi.std import errors_client
    from com.vmware.vcenter.vcha.cluster_client import Mode, Passive
    from com.vmware.vcenter.vcha_client import (
        CertificateInfo as SdkCertificateInfo,
    )
    from com.vmware.vcenter.vcha_client import (
        Cluster,
        ConnectionSpec,
        CredentialsSpec,
        IpFamily,
        IpSpec,
        Ipv4Spec,
        Operations,
        PlacementSpec,
    )
    from vmware.vapi.vsphere.client import VsphereClient, create_vsphere_client

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VCHA = "com.vmware.vcenter.vcha"
TASK = "8a3e5c1c-0f6f-4f0e-9d1b-2f4c0f1b7d11:com.vmware.vcenter.vcha"


def connect(served: Served, password: str = PASSWORD) -> VsphereClient:
    session = requests.Session()
    session.trust_env = False  # or REQUESTS_CA_BUNDLE would override `verify`
    session.verify = str(served.tls.authority)
    try:
        return create_vsphere_client(
            server=served.where, username=ADMINISTRATOR, password=password, session=session
        )
    except BaseException:
        session.close()
        raise


@contextlib.contextmanager
def connected(served: Served) -> Iterator[VsphereClient]:
    client = connect(served)
    try:
        yield client
    finally:
        client.session_svc.delete()
        client.session.close()


async def using(served: Served, work: Callable[[VsphereClient], Any]) -> Any:
    """Run a function with a logged-in client, in a thread beside the server's loop."""

    def run() -> Any:
        with connected(served) as client:
            return work(client)

    return await asyncio.to_thread(run)


def task_info(**fields: Any) -> TaskInfo:
    standard: dict[str, Any] = {
        "description": message("passive.redeploy"),
        "service": f"{VCHA}.cluster.passive",
        "operation": "redeploy$task",
        "target": DynamicID(type="VirtualMachine", id="vm-42"),
        "user": ADMINISTRATOR,
        "status": TaskStatus.PENDING,
        "cancelable": True,
    }
    return TaskInfo(**(standard | fields))


RUNNING = {
    "status": TaskStatus.RUNNING,
    "start_time": BEGINNING,
    "progress": TaskProgress(total=100, completed=40, message=message("passive.redeploy")),
}


def redeploy_spec() -> Any:
    return Passive.RedeploySpec(
        vc_spec=CredentialsSpec(
            active_location=ConnectionSpec(
                hostname="mgmt.vc.local", username=ADMINISTRATOR, password="geheim"
            )
        ),
        placement=PlacementSpec(name="passive-2", folder="group-v3"),
        ha_ip=IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address="192.0.2.2", prefix=24)),
    )


async def test_login_and_logout(served: Served) -> None:
    """A session is created and deleted; the SDK reads its info."""
    info = await using(served, lambda client: client.session_svc.get())
    assert info.user == ADMINISTRATOR
    assert await served.edge.store.prefix("/openvcha/sessions/") == []


async def test_a_wrong_password_is_unauthenticated(served: Served) -> None:
    """As the SDK's exception, with the challenge."""
    with pytest.raises(errors_client.Unauthenticated) as caught:
        await asyncio.to_thread(connect, served, "wrong-password")
    assert caught.value.challenge.startswith("Basic ")


async def test_cluster_get(served: Served) -> None:
    """The whole structure arrives, and `partial` too."""
    info = await using(served, lambda client: client.vcenter.vcha.Cluster.get(partial=True))
    assert isinstance(info, Cluster.Info)
    assert info.node1.ha_ip.ipv4.prefix == 24
    assert info.health_warnings[0].error.default_message == "text"
    assert served.edge.dispatcher.calls[0][1]["partial"] is True


async def test_reads(served: Served) -> None:
    """Mode, operations, deployment type and the inventory."""

    def read(client: VsphereClient) -> Any:
        vcha = client.vcenter.vcha
        return (
            vcha.Operations.get(),
            vcha.cluster.Mode.get(),
            vcha.cluster.DeploymentType.get(),
            client.vcenter.VM.list(),
            client.vcenter.Folder.list(),
            client.vcenter.Datastore.list(),
        )

    operations, mode, kind, vms, folders, datastores = await using(served, read)
    assert isinstance(operations, Operations.Info)
    assert mode.mode == Mode.ClusterMode.ENABLED
    assert kind.deployment_type
    assert vms[0].vm
    assert folders[0].folder
    assert datastores[0].datastore


async def test_passive_check_and_redeploy(served: Served) -> None:
    """The spec arrives as the SDK sent it, with the password still a secret."""

    def call(client: VsphereClient) -> Any:
        passive = client.vcenter.vcha.cluster.Passive
        spec = redeploy_spec()
        check = Passive.CheckSpec(vc_spec=spec.vc_spec, placement=spec.placement)
        return passive.check(check), passive.redeploy_task(spec)

    result, task = await using(served, call)
    assert isinstance(result, Passive.CheckResult)
    assert task.get_task_id() == "com.vmware.cis.TASK-1"
    spec = served.edge.dispatcher.calls[1][1]["spec"]
    assert spec.vc_spec.active_location.password.reveal() == "geheim"
    assert "geheim" not in repr(spec)
    assert (spec.placement.name, spec.ha_ip.ipv4.prefix) == ("passive-2", 24)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        RUNNING,
        RUNNING | {"status": TaskStatus.SUCCEEDED, "end_time": BEGINNING},
        RUNNING
        | {
            "status": TaskStatus.SUCCEEDED,
            "end_time": BEGINNING,
            "result": Opaque(DynamicID, DynamicID(type="VirtualMachine", id="vm-43")),
        },
        RUNNING
        | {
            "status": TaskStatus.FAILED,
            "end_time": BEGINNING,
            "error": ApiError(ErrorType.NOT_FOUND, message("task.not.found", "x")),
        },
    ],
    ids=["pending", "running", "succeeded", "with-result", "failed"],
)
async def test_tasks_get(served: Served, fields: dict[str, Any]) -> None:
    """Each status passes the SDK's own check of the Task Info union."""
    served.edge.dispatcher.answers["com.vmware.cis.tasks.get"] = task_info(**fields)
    info = await using(served, lambda client: tasks(client).get(TASK))
    assert info.status == fields.get("status", "PENDING")
    assert info.target.id == "vm-42"
    if info.status == Status.RUNNING:
        assert info.progress.completed == 40
        assert info.start_time == BEGINNING.replace(tzinfo=None)


async def test_tasks_list_and_cancel(served: Served) -> None:
    """A map of tasks, with filter and result specifications; cancel returns nothing."""
    served.edge.dispatcher.answers["com.vmware.cis.tasks.list"] = {TASK: task_info()}

    def call(client: VsphereClient) -> Any:
        wanted = Tasks.FilterSpec(services={f"{VCHA}.cluster.passive"}, status={Status.RUNNING})
        found = tasks(client).list(wanted, Tasks.GetSpec(exclude_result=True))
        return found, tasks(client).cancel(TASK)

    found, nothing = await using(served, call)
    assert found[TASK].operation == "redeploy$task"
    assert nothing is None
    (_, arguments, _), (_, cancelled, _) = served.edge.dispatcher.calls
    assert arguments["filter_spec"].services == {f"{VCHA}.cluster.passive"}
    assert arguments["result_spec"].exclude_result is True
    assert cancelled == {"task": TASK}


async def test_following_a_task_by_what_redeploy_returned(served: Served) -> None:
    """The SDK's task object reads its state, its result (none) and its error."""
    ended = RUNNING | {
        "status": TaskStatus.FAILED,
        "end_time": BEGINNING,
        "error": ApiError(ErrorType.RESOURCE_BUSY, message("task.canceled")),
    }
    served.edge.dispatcher.answers["com.vmware.cis.tasks.get"] = task_info(**ended)

    def call(client: VsphereClient) -> Any:
        task = client.vcenter.vcha.cluster.Passive.redeploy_task(redeploy_spec())
        return task.get_info(), task.get_error()

    info, error = await using(served, call)
    assert info.status == Status.FAILED
    assert error.convert_to(errors_client.ResourceBusy).error_type == "RESOURCE_BUSY"


def sdk_error(error_type: ErrorType) -> Any:
    name = "".join(word.capitalize() for word in error_type.value.split("_"))
    return getattr(errors_client, name)


async def test_each_error_is_raised_as_its_class(served: Served) -> None:
    """All 25, with their messages, causes and data."""
    data = CertificateInfo(ssl_thumbprint="AA:BB", ssl_certificate="PEM")
    messages = message("peer.unverified", "h"), message("cluster.not.configured")

    def call(client: VsphereClient) -> Any:
        met = {}
        for error_type in ErrorType:
            served.edge.dispatcher.answers[f"{VCHA}.cluster.passive.redeploy"] = ApiError(
                error_type, *messages, data=data
            )
            with pytest.raises(sdk_error(error_type)) as caught:
                client.vcenter.vcha.cluster.Passive.redeploy_task(redeploy_spec())
            met[error_type] = caught.value
        return met

    met = await using(served, call)
    assert list(met) == list(ErrorType)
    for error_type, error in met.items():
        assert [each.id for each in error.messages] == [each.id for each in messages]
        assert error.error_type == error_type.value
        assert error.data.convert_to(SdkCertificateInfo).ssl_thumbprint == "AA:BB"


async def test_what_comes_later_is_unsupported(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the SDK's own exception."""
    row = by_id("com.vmware.vcenter.vcha.cluster.failover")
    monkeypatch.setitem(vars(row), "available", False)
    with pytest.raises(errors_client.Unsupported):
        await using(served, lambda client: client.vcenter.vcha.Cluster.failover_task(planned=True))


class Ended:
    """Stands in for a client's session that has expired."""

    def delete(self) -> None:
        """Do nothing."""


async def test_a_session_that_is_over_is_unauthenticated(served: Served) -> None:
    """To the SDK it looks like a missing one."""

    def read(client: VsphereClient) -> Any:
        client.session_svc.delete()
        try:
            return client.vcenter.vcha.Operations.get()
        finally:
            client.session_svc = Ended()

    with pytest.raises(errors_client.Unauthenticated):
        await using(served, read)


def tasks(client: VsphereClient) -> Any:
    return Tasks(client._stub_factory._stub_config)
