"""VMs that are directories and processes of this machine."""
