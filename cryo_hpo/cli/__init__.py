"""The commands of the CLI, a file for each group; `__main__` puts them together."""
