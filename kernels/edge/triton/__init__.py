"""The edge operators on GPUs: Triton kernels, their launches and the tables that choose them."""
