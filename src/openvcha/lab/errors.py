"""Errors of a lab that a command distinguishes by its exit code."""

from openvcha.client.errors import CommandError


class LabNotFound(CommandError):  # noqa: N818 - named after the condition
    """The lab does not exist."""
