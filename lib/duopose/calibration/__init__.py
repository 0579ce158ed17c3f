"""Calibration: the decoder's model fitted to one network on labelled images."""
