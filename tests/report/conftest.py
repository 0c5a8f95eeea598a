import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_samples, which the tests share


@pytest.fixture(autouse=True, scope="session")
def registered():
    """The names of the methods whose runs the samples are."""
    from tfbnas.report import methods

    named = {
        "dms": ("DMS", "Differentiable dimension search", "DMS: Differentiable Dimension Search"),
        "bsn": ("BSN", "Budgeted super networks", "Learning Time/Memory-Efficient Deep Architectures"),
    }
    for name, (label, title, source) in named.items():
        methods.METHODS.setdefault(name, SimpleNamespace(label=label, title=title, source=source))
