"""Parts of an experiment that do not belong to scoresde. They import its public names only."""
