"""The distance between calibration and evaluation, one source at a time."""
