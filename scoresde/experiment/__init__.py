"""The configuration of an experiment, the objects that it names, and loading of a trained run from its folder."""
