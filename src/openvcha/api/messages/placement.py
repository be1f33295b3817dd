"""Where nodes are put: placements, addresses, infrastructures, and the peer of vc_spec."""

PLACEMENT = {
    "placement.name.invalid": (
        "%s: %s is not a valid name; use 1 to 80 ASCII letters, digits, spaces, '.', '_' or '-',"
        " beginning with a letter or digit."
    ),
    "placement.name.taken": "%s: the name %s belongs to %s; choose another name.",
    "placement.unknown": "%s: the inventory has no %s; choose one that it lists.",
    "placement.unset": "%s: there is no default; set it.",
    "placement.folder.type": "%s: %s is a folder of type %s; choose one for virtual machines.",
    "placement.network.type.missing": "%s: set the type of network %s.",
    "placement.network.type.mismatch": "%s: %s is not the type of network %s; use %s.",
    "placement.network.same": (
        "%s: %s is also the management network; the two networks must be different."
    ),
    "placement.host.pool": (
        "%s: host %s does not belong to the resource pool; choose a host of the pool's cluster."
    ),
    "placement.host.disconnected": "%s: host %s is %s; reconnect it or choose another host.",
    "placement.host.off": "%s: host %s is powered off; power it on or choose another host.",
    "placement.host.maintenance": (
        "%s: host %s is in maintenance; end the maintenance or choose another host."
    ),
    "placement.host.network": (
        "%s: host %s cannot reach network %s; choose another host or network."
    ),
    "placement.host.none": (
        "%s: no usable host of the resource pool reaches the networks and the datastore; "
        "connect a host, or choose other networks or another datastore."
    ),
    "placement.host.shared": (
        "%s: host %s already carries another node of the cluster, and its loss would take both;"
        " choose another host."
    ),
    "placement.host.shared.chosen": (
        "%s: host %s already carries another node of the cluster, and its loss would take both, but"
        " no other host is usable; add or connect a host."
    ),
    "placement.datastore.unreachable": (
        "%s: host %s cannot reach datastore %s; choose another datastore or host."
    ),
    "placement.datastore.none": "%s: host %s cannot reach any datastore; choose another host.",
    "placement.datastore.space": (
        "%s: datastore %s has %s bytes free, and %s are needed; free space or choose another."
    ),
    "address.branch.missing": "%s: must be set when ip_family is %s.",
    "address.branch.other": "%s: must not be set when ip_family is %s.",
    "address.syntax": "%s: %s is not an IP address; write it without prefix, zone or port.",
    "address.family": "%s: %s is not an %s address.",
    "address.prefix.missing": "%s: set prefix or subnet_mask.",
    "address.prefix.range": "%s: %s is not a valid prefix length; use 1 to %s.",
    "address.prefix.network": "%s: the prefix %s does not match the network's subnet %s.",
    "address.mask": "%s: %s is not a subnet mask; use one such as 255.255.255.0.",
    "address.disagree": "%s: %s and the prefix %s disagree; the mask has the prefix %s.",
    "address.unusable": (
        "%s: %s cannot be a host's address in %s; do not use a network, broadcast, multicast,"
        " link-local or reserved address."
    ),
    "address.gateway.outside": "%s: %s is not in the subnet %s of the address; choose one in it.",
    "address.gateway.self": "%s: %s is the address itself; use the router's, or none.",
    "address.ha.family": (
        "%s: the HA address is %s and the management address is %s; both must be of the same"
        " family."
    ),
    "address.ha.subnet": (
        "%s: %s is in the management subnet %s; HA addresses need a subnet of their own."
    ),
    "address.outside": "%s: %s is not in the network's subnet %s; choose an address in it.",
    "address.duplicate": "%s: %s is already the address of %s; choose another.",
    "address.taken": "%s: %s is assigned to the virtual machine %s; choose another.",
    "address.absent": (
        "%s: %s is on no interface of the host %s; choose an address that the host has, or add it"
        " to an interface first."
    ),
    "address.answering": "%s: %s is already in use; choose another.",
    "address.host.network": (
        "%s: no network of host %s contains the public address %s; choose a host that has one."
    ),
    "address.host.helper": (
        "%s: a node on host %s could not hold the public address %s (%s). Run there as root:"
        " vcha systemd address %s %s"
    ),
}

INFRASTRUCTURE = {
    "infrastructure.none": "There is no usable inventory at %s: %s.",
    "infrastructure.other": "The inventory at %s was created with other subnets: %s; use those.",
    "infrastructure.subnets": (
        "The subnets %s and %s cannot be used: both must be IPv4, lie in 127.0.0.0/8 and have at"
        " least four addresses, and they must not overlap."
    ),
    "infrastructure.unreachable": "The host %s does not respond: %s.",
    "infrastructure.unknown": "There is no %s in the inventory.",
    "inventory.too.many": "More than %s entries match; narrow the filter.",
    "inventory.full": "The inventory can have at most %s %s.",
    "inventory.in.use": "%s is used by %s; remove that first.",
    "infrastructure.unmanaged": (
        "No infrastructure can create %s: create the node by hand (docs/manual.md)."
    ),
    "infrastructure.vm.exists": "The name %s belongs to %s; choose another name.",
    "infrastructure.vm.name": "%s cannot be used as a directory name; choose another name.",
    "infrastructure.vm.directory": (
        "%s already exists and belongs to no virtual machine; move it away."
    ),
    "infrastructure.vm.deleting": "%s is being deleted; finish that first.",
    "infrastructure.vm.on": "%s is powered on; power it off first.",
    "infrastructure.vm.busy": (
        "Another power or delete operation has held %s for %s s; try again later."
    ),
    "infrastructure.file.path": "%s is not a relative path inside the virtual machine.",
    "infrastructure.file.missing": "%s has no file %s.",
    "infrastructure.power.died": "%s stopped right after it was powered on. Its last output: %s",
    "infrastructure.power.on.late": (
        "%s was not up within %s s and was powered off again. Its last output: %s"
    ),
    "infrastructure.power.off.late": "Processes of %s are still running after %s s: %s.",
    "infrastructure.ipv6": (
        "The local infrastructure has only the loopback address ::1 for IPv6; use IPv4 addresses."
    ),
}

PEER = {
    "peer.unverified": (
        "%s presented an unexpected certificate; the field data has its thumbprint."
    ),
    "peer.certificate.ambiguous": "Set ssl_thumbprint or ssl_certificate, not both.",
    "peer.certificate.malformed": "ssl_certificate is not a PEM certificate.",
    "peer.thumbprint.malformed": (
        "ssl_thumbprint is neither SHA-1 (40 hexadecimal digits) nor SHA-256 (64)."
    ),
    "peer.hostname": "%s is neither a host name nor an IP address.",
    "peer.port": "%s is not a TCP port; use 1 to 65535.",
    "peer.credentials.unset": "vc_spec.active_location.%s must be set.",
    "peer.not.manager": "%s does not manage the active node; use the vCenter that does.",
    "peer.unreachable": "%s cannot be reached: %s.",
    "peer.timeout": "%s did not respond within %s seconds.",
    "invalid.credentials": "%s refused the user name or the password.",
}
