"""The amortised model: baseline, encoder, decoder, and the ELBO that trains them.

Modules and their records only: optimisers are in ``training``, forecasts in ``predict``.
"""
