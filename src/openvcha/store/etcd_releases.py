"""Which releases of etcd are fit for machines that others can reach. Pure."""

LEAKS_BEFORE = (3, 5, 0)
LOSES_BEFORE = (3, 5, 3)


def why_unfit(version: tuple[int, ...]) -> str:
    """Return why a release (major, minor, patch) is for labs only; empty if it is not."""
    if version < LEAKS_BEFORE:
        return (
            "before 3.5, the write-ahead log of every member, even of the witness, holds the"
            " passwords of the store's accounts in clear text"
        )
    if version < LOSES_BEFORE:
        return "3.5.0 to 3.5.2 can become inconsistent after a crash"
    return ""
