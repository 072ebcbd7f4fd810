"""Deep angular graph convolution: the layers, several implementations of the propagation, and a compiled form in C."""
