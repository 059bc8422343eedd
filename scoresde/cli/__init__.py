"""Commands: flags, errors as one line each, exit codes. Each command has one module; `parser` contains shared code."""
