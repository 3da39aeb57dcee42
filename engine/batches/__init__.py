"""Windows of a panel as batches of tensors, and the row masks that go with them.

No parameters and no statistics: how a batch is used is decided in ``evidence`` and ``nn``.
"""
