"""The commands of the CLI, a file for each group; `main` puts them together."""
