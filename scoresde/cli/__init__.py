"""The commands: flags, errors as one line each, exit codes. One module per command; `parser` holds shared code."""
