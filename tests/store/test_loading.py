"""Imports and models without garbage collection."""

import gc
import weakref

import pytest

from mpd.store.loading import loading


@pytest.fixture(autouse=True)
def frozen_before():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_nothing_is_collected_while_it_loads_and_the_collector_leaves_it_alone_afterwards():
    assert gc.isenabled()
    with loading():
        assert not gc.isenabled()
        module = [{"name": number} for number in range(1000)]
        assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(module)
    assert not any(found is module[0] for found in gc.get_objects())


def test_garbage_of_loading_does_not_stay():
    class Tensor:
        pass

    with loading():
        cycle: list[object] = [Tensor()]
        cycle.append(cycle)
        tensor = weakref.ref(cycle[0])
        del cycle
        assert tensor() is not None
    assert tensor() is None


def test_the_collector_is_back_where_loading_fails():
    with pytest.raises(ValueError, match="no model"), loading():
        raise ValueError("no model")
    assert gc.isenabled()


def test_what_comes_later_is_collected():
    with loading():
        pass
    for _ in range(10):
        cycle: list[object] = []
        cycle.append(cycle)
    assert gc.collect() >= 9
