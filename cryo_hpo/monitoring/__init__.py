"""Report the progress of a study: event log, terminal, recorder."""
