"""Use a trained model: load it, export it, map scenes of any size."""
