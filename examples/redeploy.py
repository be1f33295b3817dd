"""Replace a lost passive node with the official Python SDK, and wait until it is done.

`eval "$(./dev vcha lab env)"` sets the variables; `./dev python examples/redeploy.py` runs it.
"""

import os
import time

import requests
from com.vmware.vcenter.vcha.cluster_client import Passive
from com.vmware.vcenter.vcha_client import PlacementSpec
from vmware.vapi.vsphere.client import create_vsphere_client

session = requests.Session()
session.verify = os.environ["CA"]
session.trust_env = False  # REQUESTS_CA_BUNDLE, if set, would override verify
host = os.environ["API"].removeprefix("https://")
client = create_vsphere_client(
    host, username=os.environ["VCHA_USER"], password=os.environ["PASSWORD"], session=session
)

spec = Passive.RedeploySpec(placement=PlacementSpec(name="passive-2", folder="group-v3"))
task = client.vcenter.vcha.cluster.Passive.redeploy_task(spec)
while (info := task.get_info()).status not in ("SUCCEEDED", "FAILED"):
    print(info.progress.completed if info.progress else 0, "%")
    time.sleep(1)
print(info.status, client.vcenter.vcha.Cluster.get(partial=True).health_state)
