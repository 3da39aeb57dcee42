"""What measurements share: cases, scores, options, result files, pictures. No method lives here."""
