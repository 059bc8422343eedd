"""Files, processes and devices, for all other packages.

files      opening of regular files only, and atomic writing
reading    JSON, safetensors and state dicts of PyTorch from untrusted sources
arrays     arrays of NumPy and NPZ files from untrusted sources
places     paths of the user
sharding   placement of arrays on devices
peers, lookout
           the other processes of a run
programs   cache of compiled programs
progress   progress of long work, and output whose reader may end
lazy       public names that are imported on first use
"""
