"""A model on images, videos and cameras: what `tools/predict.py` does."""
