"""The commands of `vcha` that ask the API: a file for each."""
