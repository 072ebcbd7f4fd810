"""Deep angular graph convolution: its layers, the ways of computing them, and their compiled form."""
