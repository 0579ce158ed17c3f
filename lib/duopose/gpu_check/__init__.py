"""`tools/gpu_check.py`: shows on a machine with one GPU that training and inference work on it."""
