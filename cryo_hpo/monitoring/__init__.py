"""Record a study's trainings, and show them on the terminal."""
