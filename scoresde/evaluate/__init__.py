"""Numbers and pictures of a trained score. So far: bits/dim and the grid of samples."""
