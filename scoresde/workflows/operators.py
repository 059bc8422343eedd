"""Names of the operators that `python -m scoresde.sample --task restore` applies to records before it restores them;
see `restore`."""

START = "start"
OPERATORS = ("blur", "downsample", "inpaint", START)
