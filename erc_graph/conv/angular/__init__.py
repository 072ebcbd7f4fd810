"""Deep angular graph convolution: the layers, several implementations of the propagation, and an implementation of the layers in C."""
