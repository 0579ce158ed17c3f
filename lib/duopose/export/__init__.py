"""Files for other run-time libraries, and their comparison with PyTorch: `tools/export.py`."""
