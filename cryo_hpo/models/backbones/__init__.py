"""Define the networks of the encoders."""
