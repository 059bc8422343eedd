"""The commands: flags, one line for each error, exit codes. `parser` holds what they share, one module each command."""
