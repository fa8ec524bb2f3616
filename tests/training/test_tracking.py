"""Trackers that are missing."""

import pytest

from mpd.training.tracking import require_tracker


def test_a_tracker_that_is_not_installed_is_refused():
    require_tracker("none")
    require_tracker("tensorboard")
    with pytest.raises(ValueError) as caught:
        require_tracker("mlflower")
    assert str(caught.value) == (
        "resources.distill.tracker is mlflower, which is not installed; pip install mlflower, or "
        "set it to none"
    )
