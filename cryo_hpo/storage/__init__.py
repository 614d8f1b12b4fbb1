"""Write files atomically, lock them, download them, and keep the event log."""
