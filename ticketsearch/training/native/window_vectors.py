"""Vector code of convolutions: sums over kept weights for positions side by side, and over positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ticketsearch.training.native.instructions import INDEX, Code, loop, pointer

__all__ = ["lanes_total", "window_dot", "window_sum"]


def _sum_of(vectors: int, positions: int) -> Callable[..., Any]:
    @intrinsic
    def window_sum(
        typing, out, at, across, start, adds, weights, begin, end, rows, x, x_at, x_across, stride
    ):
        """Set, or add to, out[at + p across + s]: Σ_k weights[k] x[x_at + p x_across + rows[k] stride + s].

        Sums begin at ``start``, or where they add at what is there; ``p`` counts positions.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = Code(context, builder, out)
            into = pointer(context, builder, out, arguments[0])
            weight = pointer(context, builder, weights, arguments[5])
            row = pointer(context, builder, rows, arguments[8])
            read = pointer(context, builder, x, arguments[9])
            begun, to, places = [], [], []
            for p in range(positions):
                to.append(builder.add(arguments[1], builder.mul(arguments[2], code.index(p))))
                places.append(builder.add(arguments[10], builder.mul(arguments[11], code.index(p))))
                for v in range(vectors):
                    old, new = code.load(into, to[-1], v), code.splat(arguments[3])
                    begun.append(builder.select(arguments[4], old, new))

            def add(k: Any, *sums: Any) -> list[Any]:
                factor = code.splat(builder.load(builder.gep(weight, [k])))
                shift = builder.mul(builder.sext(builder.load(builder.gep(row, [k])), INDEX), arguments[12])
                return [
                    code.fused(
                        code.load(read, builder.add(shift, places[i // vectors]), i % vectors), factor, so_far
                    )
                    for i, so_far in enumerate(sums)
                ]

            for i, value in enumerate(loop(builder, arguments[6], arguments[7], 1, begun, add)):
                code.store(value, into, to[i // vectors], i % vectors)
            return context.get_dummy_value()

        n = types.int64
        signature = types.void(out, n, n, out.dtype, types.boolean, weights, n, n, rows, x, n, n, n)
        return signature, build

    return window_sum


def _dot_of(together: int) -> Callable[..., Any]:
    @intrinsic
    def window_dot(
        typing, sums, order, k, rows, x, x_at, x_down, x_across, change, at, down, across, high, wide, stride
    ):
        """Add Σ x[x_at + rows[k + i] stride + …] change[at + …] to the vector of number order[k + i].

        The sum is over positions and vectors of samples; lanes of a vector stay apart.
        ``down`` and ``across`` are steps from one position to the next.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = Code(context, builder, sums)
            into = pointer(context, builder, sums, arguments[0])
            orders = pointer(context, builder, order, arguments[1])
            row = pointer(context, builder, rows, arguments[3])
            read = pointer(context, builder, x, arguments[4])
            changes = pointer(context, builder, change, arguments[8])
            begun, places, slots = [], [], []
            for i in range(together):
                here = builder.add(arguments[2], code.index(i))
                slot = builder.sext(builder.load(builder.gep(orders, [here])), INDEX)
                slots.append(builder.mul(slot, code.index(code.lanes)))
                begun.append(code.load(into, slots[-1]))
                shift = builder.mul(
                    builder.sext(builder.load(builder.gep(row, [here])), INDEX), arguments[14]
                )
                places.append(builder.add(arguments[5], shift))

            def line(y: Any, *lines: Any) -> list[Any]:
                def position(p: Any, *so_far: Any) -> list[Any]:
                    x_at = builder.add(builder.mul(y, arguments[6]), builder.mul(p, arguments[7]))
                    at = builder.add(builder.mul(y, arguments[10]), builder.mul(p, arguments[11]))
                    at = builder.add(at, arguments[9])

                    def block(s: Any, *totals: Any) -> list[Any]:
                        held = code.load(changes, builder.add(at, s))
                        from_here = builder.add(x_at, s)
                        return [
                            code.fused(code.load(read, builder.add(place, from_here)), held, value)
                            for place, value in zip(places, totals, strict=True)
                        ]

                    return loop(builder, code.index(0), arguments[14], code.lanes, so_far, block)

                return loop(builder, code.index(0), arguments[13], 1, lines, position)

            for slot, value in zip(
                slots, loop(builder, code.index(0), arguments[12], 1, begun, line), strict=True
            ):
                code.store(value, into, slot)
            return context.get_dummy_value()

        n = types.int64
        signature = types.void(sums, order, n, rows, x, n, n, n, change, n, n, n, n, n, n)
        return signature, build

    return window_dot


@intrinsic
def lanes_total(typing, x, at):
    """Return the sum of the vector at ``x[at]``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, x)
        vector = code.load(pointer(context, builder, x, arguments[0]), arguments[1])
        return builder.extract_element(code.totals([vector] * 4), ir.Constant(ir.IntType(32), 0))

    return x.dtype(x, types.int64), build


window_sum = {shape: _sum_of(*shape) for shape in ((4, 2), (4, 1), (2, 4), (2, 1), (1, 4), (1, 1))}
window_dot = {together: _dot_of(together) for together in (8, 4, 2, 1)}
