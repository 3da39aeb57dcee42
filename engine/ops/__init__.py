"""Linear algebra and scans in two forms: torch's own, and operators that export to ONNX."""
