"""The calendar operator in Triton, one program a store: kernels, and their launches."""
