"""Define the datasets of Cryo-Bench, in their published layouts."""
