"""Roles of users."""

import enum


class Role(enum.StrEnum):
    """A user's role, with the names that vCenter uses."""

    ADMINISTRATOR = "Administrator"
    READ_ONLY = "ReadOnly"
    NO_ACCESS = "NoAccess"
