"""Read and write studies, campaigns, spaces, cards and priors as YAML."""
