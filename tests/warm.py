"""What every program of the tests needs, done once in the process that they are forked from (`programs`).

Importing this loads the compiled kernels, and has Optuna read its tables' history: half of what a short worker costs.
"""

from __future__ import annotations

import tempfile

import torch

from pairsearch.search.database.connection import open_database
from pairsearch.search.mirror.trials import open_storage
from pairsearch.studies.pairs.installation import train_a_little

# Threads of PyTorch's would be missing after a fork, and waited for.
torch.set_num_threads(1)
train_a_little("b1")
with tempfile.TemporaryDirectory() as folder:
    database = open_database(f"sqlite:///{folder}/none.db", create=True)
    storage = open_storage(database)
    storage.remove_session()
    storage.engine.dispose()
    database.close()
