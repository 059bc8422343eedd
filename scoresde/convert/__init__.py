"""Published weights as runs of ours: `python -m scoresde.convert SOURCE --out DIR`.

reading     files to arrays, none of which executes code
recipes     what a file does not say: the fields of network, process and data
diffusers, score_sde, guided
            the parameters of others under the names of `scoresde.nets`
folder      parameters and configuration to a run folder
exporting   a run to one safetensors file, and back
"""
