"""Define the commands of the CLI, a file for each group; `main` combines them."""
