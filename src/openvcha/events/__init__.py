"""Events of the cluster, and the audit log of calls that change something."""
