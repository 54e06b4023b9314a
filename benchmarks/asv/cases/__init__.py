"""What `make asv` times of two commits."""
