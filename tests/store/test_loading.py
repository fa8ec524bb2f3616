"""Imports and models without garbage collection."""

import gc
import subprocess
import sys
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


@pytest.mark.parametrize("library", ["json", "triton"])
def test_the_end_of_a_process_collects_only_where_a_library_counts_its_objects(library):
    """A cycle that was there while it loaded is freed at the end, or left to it."""
    code = f"""
import sys, types
from mpd.store.loading import loading
sys.modules["{library}"] = types.ModuleType("{library}")
class Node:
    def __del__(self, write=sys.stderr.write):
        write("freed")
with loading():
    node = Node()
    node.self = node
del node
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ("freed" if library == "triton" else "")


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
