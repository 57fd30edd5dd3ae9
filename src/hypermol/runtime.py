"""Devices, precision and compilation cache, which only this file sets; loops over blocks of images
in as many threads as there are cores."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

#: glibc's numbers (malloc.h): the most arenas that its allocator keeps, how much free memory may
#: stay at its end, and from what size memory is mapped by itself and given back when freed.
_M_ARENA_MAX, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -8, -1, -3
_KEPT_BYTES, _MAPPED_BYTES = 1 << 20, 1 << 20
#: Threads that share a loop: each needs memory for what it works on.
_MOST_THREADS = 8


def _c_library() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def _give_back_soon() -> None:
    """Have the allocator keep little of what is freed.

    All threads allocate in one place: compilers in many threads scatter what they free. The
    thresholds, which would grow with what is freed, are held.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def release_memory() -> None:
    """Give back what finished work holds: compiled functions, and what the allocator keeps."""
    jax.clear_caches()
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Give back what the allocator keeps: compiling leaves a hundred MB or more in small pieces."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def on_device(values: npt.ArrayLike) -> jax.Array:
    """Host values as a float32 array, by a copy alone: every eager operation would be compiled,
    once for each shape, and a compiled function holds about 1.5 MB until it is released."""
    return jax.device_put(np.asarray(values, np.float32))


def configure(cache: Path | None = None) -> str:
    """Set JAX up for a command; libraries and tests that import hypermol are left alone.

    Matrix products run in full float32 (GPUs would otherwise take TF32, which is too coarse for
    accept decisions), compiled functions are kept between runs, and memory in one place.

    Args:
        cache: folder of compiled functions; None takes HYPERMOL_CACHE or ~/.cache/hypermol.

    Returns:
        A sentence that names the devices.
    """
    _give_back_soon()
    folder = cache or Path(os.environ.get("HYPERMOL_CACHE", Path.home() / ".cache" / "hypermol"))
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    devices = jax.devices()
    return f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}"


BlockLoop = Callable[..., Any]


def block_loop(body: Callable[[Any], Callable[[Any], Any]]) -> BlockLoop:
    """A loop over blocks in which no block knows of another.

    A loop in a compiled function runs on one core of a CPU, whatever it holds; several compiled
    calls at a time run on several. What is found for a block does not depend on how many. On other
    devices, and where it is traced, the loop is one.

    Args:
        body: what all blocks share -> (one block -> what is found for it); pure, for JAX.

    Returns:
        A function of items, a tree of arrays with blocks along the first axis, what they share, and
        the rows [R] that are given to the body, None all: what is found, stacked.
    """

    @jax.jit
    def some(items: Any, shared: Any, rows: jax.Array) -> Any:
        one = body(shared)
        return jax.lax.map(lambda row: one(jax.tree.map(lambda x: x[row], items)), rows)

    def loop(items: Any, shared: Any, rows: npt.ArrayLike | None = None) -> Any:
        leaves = jax.tree.leaves((items, shared))
        chosen = np.arange(len(jax.tree.leaves(items)[0])) if rows is None else np.asarray(rows)
        n = len(chosen)
        size = -(-n // min(_threads(), n))
        if size == n or any(isinstance(x, jax.core.Tracer) for x in leaves):
            return some(items, shared, chosen)
        # of one size, so that they are compiled once: the last may begin with rows of another's
        starts = [min(start, n - size) for start in range(0, n, size)]
        parts = in_threads(lambda at: some(items, shared, chosen[at : at + size]), starts)
        return _joined(parts, (n - 1) % size + 1)

    return loop


@partial(jax.jit, static_argnums=1)
def split_keys(key: jax.Array, shape: int | tuple[int, ...]) -> jax.Array:
    """Keys of one, compiled once for each shape."""
    return jax.random.split(key, shape)


def _threads() -> int:
    """How many threads share a loop: on a CPU the cores that there are, else one."""
    return _host_threads() if jax.default_backend() == "cpu" else 1


def _host_threads() -> int:
    own = getattr(os, "sched_getaffinity", None)
    cores = len(own(0)) if own else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def in_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What a function finds for each item, in their order, several at a time: for compiled calls,
    and for NumPy's work on the host, which let other threads run."""
    with ThreadPoolExecutor(_host_threads()) as pool:
        return list(pool.map(function, items))


@partial(jax.jit, static_argnums=1)
def _joined(parts: list[Any], last: int) -> Any:
    """Parts one after another; of the last only so many at its end."""
    parts = [*parts[:-1], jax.tree.map(lambda x: x[-last:], parts[-1])]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
