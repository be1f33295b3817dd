"""Creating a node: its boot file, its VM, and the files that it gets when it joins."""
