"""Files of ours that the operating system refuses to work on."""

FILES = {
    "file.refused": (
        "%s: %s. Look at the owner, mode and attributes (lsattr) of it and of the directory that "
        "it is in: whoever does this must be able to change both. Then try again."
    ),
    "file.readonly": "%s: %s. Find out why its file system is not writable, then try again.",
    "file.full": "%s: %s. Free some space there, then try again.",
    "file.failed": "%s: %s.",
}
