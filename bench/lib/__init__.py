"""What measurements share: datasets, metrics, options, result files, pictures.

No method and no measurement lives here.
"""
