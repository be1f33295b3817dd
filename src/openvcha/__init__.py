"""An open implementation of the vCenter High Availability cluster service."""
