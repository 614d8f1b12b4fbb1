"""Find, download, check and load pretrained weights."""
