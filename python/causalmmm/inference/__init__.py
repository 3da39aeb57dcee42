"""What a torch model and an exported one share: which panels they answer for, frames of answers.

Arrays in, frames out; no torch, no onnxruntime.
"""
