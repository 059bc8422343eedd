"""Metrics of samples: distances of features, nearest records, and in `functions` metrics of random functions."""
