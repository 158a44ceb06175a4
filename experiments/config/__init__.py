"""What a run is told: fields with their defaults, files and flags that set them, and the run that they describe."""
