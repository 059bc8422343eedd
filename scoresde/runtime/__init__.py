"""What all rooms share about files: which may be opened, how they are read, and how they are written.

files      regular files alone, and writing in one step
reading    JSON, safetensors and state dicts of PyTorch that somebody else may have written
arrays     the same for arrays of NumPy and NPZ files
"""
