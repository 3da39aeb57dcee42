"""The likelihood of one-step errors in Triton, one program a store: kernels, and their launches."""
