"""The fitted model in torch: the estimator, what it answers, its files.

Everything that needs torch above the engine is here, and nothing that an exported model needs.
"""
