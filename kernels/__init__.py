"""The operators of the model: each has a float64-capable reference and one public function."""
