"""Hosts of an inventory that the cluster itself keeps."""

HOSTS = {
    "hosts.unmanaged": ("This cluster keeps no inventory of hosts: its infrastructure is %s."),
    "hosts.name": "%s cannot be the name of a host.",
    "hosts.address": "%s is neither an IP address nor the name of a host.",
    "hosts.user": "%s cannot be the name of an account.",
    "hosts.port": "%s is not a port (1 to 65535).",
    "hosts.key": "host_key cannot be used: %s.",
    "hosts.path": "%s is not the absolute path of a directory.",
    "hosts.subnet": "%s is not a subnet in CIDR form.",
    "hosts.interface": "%s cannot be the name of a network interface.",
    "hosts.datastore": "The directory %s does not exist on the host; create it first.",
    "hosts.datastore.unmarked": (
        "The datastore %s of the host lacks the file %s: its disk may not be mounted. If it is,"
        " make that file."
    ),
    "hosts.owed": (
        "Host %s may still have these virtual machines, which are to be deleted there: %s. Let the"
        " host respond, or abandon them: whatever is left of them then stays."
    ),
    "hosts.inventory": "The inventory of hosts cannot be read now: %s.",
    "hosts.order": "The host cannot carry out this order: %s.",
}
