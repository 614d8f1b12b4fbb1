"""Fetch and keep files."""
