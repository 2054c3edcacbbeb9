"""Folders of tiny pipelines, which tests read and do not change."""

import pytest

from tests.tiny_pipelines import tiny_cogvideox, tiny_wan


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wan")
    tiny_wan(path)
    return path


@pytest.fixture(scope="session")
def cogvideox_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cogvideox")
    tiny_cogvideox(path)
    return path


@pytest.fixture(scope="session")
def image_to_video_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cogvideox_i2v")
    tiny_cogvideox(path, image_to_video=True)
    return path


@pytest.fixture(scope="session")
def wan_image_to_video_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wan_i2v")
    tiny_wan(path, image_to_video=True)
    return path
