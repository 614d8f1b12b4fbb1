"""Train one recipe: build, loop, optimizer, losses, checkpoints."""
