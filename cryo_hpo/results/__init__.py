"""Define the result files of a finished study: names, schemas, reading and writing."""
