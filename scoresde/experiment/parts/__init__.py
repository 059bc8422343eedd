"""Constructors whose arguments are those of a configuration, for parts whose classes take objects."""
