"""What measurements share: datasets, metrics, options, result files, pictures. No method here."""
