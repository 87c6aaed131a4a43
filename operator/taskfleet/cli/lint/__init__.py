"""`taskfleet lint`: says offline what the API server and the operator would refuse."""
