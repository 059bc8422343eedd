"""Numbers and pictures of a trained score: bits/dim and a grid of samples; metrics of laws of functions in
`functions`."""
