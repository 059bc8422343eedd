"""Constructors with arguments that a configuration can contain, for parts whose classes require objects."""
