import pytest


@pytest.fixture
def global_random_seed():
    """What scikit-learn's own tests ask for."""
    return 0
