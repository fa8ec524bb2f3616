"""Methods that are added to the workers of vLLM."""

import os
import time
from threading import Thread
from typing import Any


class WorkerExtension:
    """Methods that vLLM mixes into its workers; the engine calls them by `collective_rpc`."""

    def trim_vocabulary(self, size: int) -> bool:
        """Cut the logits to the first `size` ids; returns whether there were padded rows beyond.

        Raises ValueError where the model has no layer that forms its logits.
        """
        model: Any = self.get_model()  # type: ignore[attr-defined]
        processors = [
            module for module in model.modules() if type(module).__name__ == "LogitsProcessor"
        ]
        if not processors:
            raise ValueError(f"no logits processor in {type(model).__name__}; use transformers")
        is_padded = any(module.org_vocab_size > size for module in processors)
        for module in processors:
            module.org_vocab_size = min(module.org_vocab_size, size)
        return is_padded

    def exit_with_job(self, job: int) -> None:
        """End this worker, and the engine with it, once the process `job` is gone.

        A job that is killed cannot tell its workers, and their memory would stay taken.
        """
        import psutil

        ancestors = {process.pid: process for process in psutil.Process().parents()}
        if job in ancestors:  # else this is the job itself, or a worker on another node
            Thread(target=_exit_with, args=(ancestors[job],), daemon=True).start()


def _exit_with(process: Any) -> None:
    """Wait for a process to end, then end this one."""
    try:
        while process.is_running() and process.status() != "zombie":
            time.sleep(2)
    finally:  # the process may end between the two questions
        os._exit(1)
