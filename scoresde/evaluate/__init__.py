"""Numbers and pictures of a trained score: bits/dim, the grid of samples, and metrics of functions."""
