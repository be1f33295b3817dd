"""What users may be."""

import enum


class Role(enum.StrEnum):
    """What a user may do."""

    ADMINISTRATOR = "Administrator"
    READ_ONLY = "ReadOnly"
    NO_ACCESS = "NoAccess"
