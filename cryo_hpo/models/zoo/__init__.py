"""List the encoders, each with its card."""
