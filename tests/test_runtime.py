"""Loops over blocks in threads find what one loop finds, bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol import runtime
from hypermol.runtime import block_loop, in_threads, split_keys


def body(scale: jax.Array) -> Any:
    def one(block: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.normal(block["key"], block["x"].shape)
        return jnp.sin(scale * block["x"]) + drawn, jnp.sum(block["x"] @ block["x"].T)

    return one


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [None, [4], [0, 2], [1, 2, 3, 5, 6]])
def test_threads_change_nothing(
    monkeypatch: pytest.MonkeyPatch, threads: int, rows: list[int] | None
) -> None:
    items = {
        "x": jax.random.normal(jax.random.key(0), (9, 5, 4)),
        "key": split_keys(jax.random.key(1), 9),
    }
    one = jax.jit(body(jnp.float32(0.7)))
    wanted = [one(jax.tree.map(lambda x, i=i: x[i], items)) for i in range(9)]
    monkeypatch.setattr(runtime, "_threads", lambda: threads)
    found = block_loop(body)(items, jnp.float32(0.7), rows)
    chosen = range(9) if rows is None else rows
    for got, alone in zip(found, zip(*(wanted[i] for i in chosen), strict=True), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.stack(alone))


def test_a_traced_loop_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_threads", lambda: 3)
    items = {
        "x": jax.random.normal(jax.random.key(0), (7, 5, 4)),
        "key": split_keys(jax.random.key(1), 7),
    }
    loop = block_loop(body)
    alone = loop(items, jnp.float32(0.7))
    traced = jax.jit(lambda *given: loop(*given))(items, jnp.float32(0.7))
    for one, other in zip(alone, traced, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-6)


def test_a_fault_in_a_thread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_threads", lambda: 2)

    def broken(shared: Any) -> Any:
        raise ValueError("of this block")

    with pytest.raises(ValueError, match="of this block"):
        block_loop(broken)(jnp.zeros((4, 2)), 0.0)


def test_threads_keep_the_order_of_items():
    assert in_threads(lambda x: x**2, range(40)) == [x**2 for x in range(40)]
