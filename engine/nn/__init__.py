"""The amortised model: baseline, encoder, decoder and the ELBO that trains them."""
