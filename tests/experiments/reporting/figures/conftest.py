import pytest

from tests.experiments.reporting.figures.gallery import Gallery


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    return Gallery(tmp_path_factory.mktemp("gallery"))
