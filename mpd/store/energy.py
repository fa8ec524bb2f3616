"""The energy that the GPUs of this process have used, where the driver counts it.

It is asked through NVML, by the package nvidia-ml-py where that is installed.
"""

import os
from contextlib import suppress
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


def named_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names; none where it is not set."""
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",")]
    end = next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:end]  # CUDA ends the list there, too


def joules_so_far() -> float | None:
    """The energy that the named GPUs have used since their driver was loaded, in joules.

    It is that of the whole cards, also for other processes. None where it is not known: without
    the package, a driver or named GPUs, and on cards that do not count it. Numbers are taken as
    those of NVML, which differ from CUDA's only where a machine has cards of several kinds.
    """
    names = named_gpus()
    if not names:
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return (
            sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(_handle(name)) for name in names) / 1e3
        )
    except pynvml.NVMLError:
        return None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _handle(name: str) -> Any:
    import pynvml

    if name.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml.nvmlDeviceGetHandleByUUID(name)
