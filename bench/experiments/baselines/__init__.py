"""Other people's methods, written by us from their papers; nothing of ``causalmmm`` is used."""
