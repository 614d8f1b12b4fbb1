"""Generate the demo datasets: glacial lakes and calving fronts."""
