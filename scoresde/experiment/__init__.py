"""The configuration of an experiment, the objects that it names, and a trained run loaded from its folder."""
