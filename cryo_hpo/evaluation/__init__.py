"""Predict windows of scenes and score them: sliding windows, blending, confusion, out-of-memory."""
