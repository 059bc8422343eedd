"""What `python -m scoresde.sample --task restore` can do to a record before it restores it, by name; see `restore`."""

START = "start"
OPERATORS = ("blur", "downsample", "inpaint", START)
