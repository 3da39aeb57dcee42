"""The evidence operators in Triton, one program a store: kernels, and their launches."""
