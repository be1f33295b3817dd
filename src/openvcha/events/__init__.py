"""Events of the cluster, and the audit of calls that change something."""
