"""Our own files on which the operating system refuses an operation."""

FILES = {
    "file.refused": (
        "%s: %s. Check the owner, mode and attributes (lsattr) of the file and of its directory:"
        " the account that runs this must be able to change both. Then try again."
    ),
    "file.readonly": "%s: %s. Find out why the file system is not writable, then try again.",
    "file.full": "%s: %s. Free some space there, then try again.",
    "file.failed": "%s: %s.",
}
