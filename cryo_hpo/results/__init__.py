"""Define what a finished study leaves: result files, their schemas and their names."""
