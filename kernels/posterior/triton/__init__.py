"""The posterior operators in Triton: kernels, and their launches."""
