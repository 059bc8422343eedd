"""Conversion of published weights to runs of scoresde: `python -m scoresde.convert SOURCE --out DIR`.

reading     reads arrays from files without executing code
recipes     fields of network, process and data that a file does not contain
diffusers, score_sde, guided
            map the parameters of other packages to the names of `scoresde.nets`
folder      writes parameters and configuration as a run folder
exporting   writes a run as one safetensors file, and reads it
"""
