"""The commands of `vcha` that call the API, one file for each."""
