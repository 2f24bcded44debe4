"""Vector code: sums of products over samples, with the sums in registers, as LLVM instructions.

A vector has 64 bytes whatever the processor, which LLVM divides into registers of its own, and every sum has
one order. So a value has the same bits on all processors that fuse multiplication and addition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ticketsearch.training.native.instructions import BYTES, INDEX, Code, loop, pointer

__all__ = [
    "BYTES",
    "TOGETHER",
    "dense_sums",
    "exponential",
    "rectified_gradient",
    "rectify",
    "rows_dot",
    "rows_sum",
    "total",
    "transpose",
]

# Units of a dense layer whose sums are held in registers.
TOGETHER = 6


def _sum_of(vectors: int) -> Callable[..., Any]:
    @intrinsic
    def rows_sum(typing, out, at, start, weights, begin, end, rows, x, x_at, stride):
        """Write start + Σ_k weights[k] x[x_at + rows[k] stride + s] to out[at + s] for a block of samples."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = Code(context, builder, out)
            into = pointer(context, builder, out, arguments[0])
            weight = pointer(context, builder, weights, arguments[3])
            row = pointer(context, builder, rows, arguments[6])
            read = pointer(context, builder, x, arguments[7])

            def add(k: Any, *sums: Any) -> list[Any]:
                factor = code.splat(builder.load(builder.gep(weight, [k])))
                place = builder.mul(builder.sext(builder.load(builder.gep(row, [k])), INDEX), arguments[9])
                offset = builder.add(place, arguments[8])
                return [code.fused(code.load(read, offset, v), factor, total) for v, total in enumerate(sums)]

            sums = loop(builder, arguments[4], arguments[5], 1, [code.splat(arguments[2])] * vectors, add)
            for v, total in enumerate(sums):
                code.store(total, into, arguments[1], v)
            return context.get_dummy_value()

        integers = types.int64
        signature = types.void(
            out, integers, out.dtype, weights, integers, integers, rows, x, integers, integers
        )
        return signature, build

    return rows_sum


def _dot_of(vectors: int) -> Callable[..., Any]:
    @intrinsic
    def rows_dot(typing, out, fresh, begin, end, rows, x, x_at, stride, change, change_at):
        """Set (fresh) or add Σ_s x[x_at + rows[k] stride + s] change[change_at + s] to out[k]."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = Code(context, builder, out)
            into = pointer(context, builder, out, arguments[0])
            row = pointer(context, builder, rows, arguments[4])
            read = pointer(context, builder, x, arguments[5])
            changes = pointer(context, builder, change, arguments[8])
            held = [code.load(changes, arguments[9], v) for v in range(vectors)]
            begin, end = arguments[2], arguments[3]

            def dot(k: Any) -> Any:
                place = builder.mul(builder.sext(builder.load(builder.gep(row, [k])), INDEX), arguments[7])
                offset = builder.add(place, arguments[6])
                total = builder.fmul(code.load(read, offset), held[0])
                for v in range(1, vectors):
                    total = code.fused(code.load(read, offset, v), held[v], total)
                return total

            def four(k: Any) -> list[Any]:
                dots = code.totals([dot(builder.add(k, code.index(i))) for i in range(4)])
                place = builder.bitcast(builder.gep(into, [k]), dots.type.as_pointer())
                old = builder.load(place)
                old.align = code.size
                old = builder.select(arguments[1], ir.Constant(dots.type, [0.0] * 4), old)
                builder.store(builder.fadd(dots, old), place, align=code.size)
                return []

            def one(k: Any) -> list[Any]:
                alone = dot(k)
                total = builder.extract_element(code.totals([alone] * 4), ir.Constant(ir.IntType(32), 0))
                place = builder.gep(into, [k])
                old = builder.select(arguments[1], ir.Constant(code.number, 0.0), builder.load(place))
                builder.store(builder.fadd(total, old), place)
                return []

            whole = builder.sub(end, builder.srem(builder.sub(end, begin), code.index(4)))
            loop(builder, begin, whole, 4, [], four)
            loop(builder, whole, end, 1, [], one)
            return context.get_dummy_value()

        integers = types.int64
        signature = types.void(
            out, types.boolean, integers, integers, rows, x, integers, integers, change, integers
        )
        return signature, build

    return rows_dot


@intrinsic
def exponential(typing, y, at):
    """Set the vector ``y[at : at + 64 bytes]`` to its exponentials."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, y)
        values = pointer(context, builder, y, arguments[0])
        code.store(code.exponential(code.load(values, arguments[1])), values, arguments[1])
        return context.get_dummy_value()

    return types.void(y, types.int64), build


@intrinsic
def dense_sums(typing, out, at, starts, start_at, weights, begin, inputs, x, x_at, stride):
    """Write start + Σ_k weights[begin + j inputs + k] x[x_at + k stride + s] to out[at + j stride + s].

    j are ``TOGETHER`` units that share the loads of x, and s a vector of samples. A unit's sum has the order
    of :func:`rows_sum`. Starts are 0 where start_at < 0.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, out)
        into = pointer(context, builder, out, arguments[0])
        first = pointer(context, builder, starts, arguments[2])
        weight = pointer(context, builder, weights, arguments[4])
        read = pointer(context, builder, x, arguments[7])
        some = builder.icmp_signed(">=", arguments[3], code.index(0))
        place = builder.select(some, arguments[3], code.index(0))
        begun = []
        for unit in range(TOGETHER):
            start = builder.load(builder.gep(first, [builder.add(place, code.index(unit))]))
            begun.append(code.splat(builder.select(some, start, ir.Constant(code.number, 0.0))))
        firsts = [
            builder.gep(weight, [builder.add(arguments[5], builder.mul(arguments[6], code.index(unit)))])
            for unit in range(TOGETHER)
        ]

        def add(k: Any, *sums: Any) -> list[Any]:
            loaded = code.load(read, builder.add(arguments[8], builder.mul(k, arguments[9])))
            factors = [code.splat(builder.load(builder.gep(row, [k]))) for row in firsts]
            return [code.fused(loaded, factor, total) for factor, total in zip(factors, sums, strict=True)]

        sums = loop(builder, code.index(0), arguments[6], 1, begun, add)
        for unit, total in enumerate(sums):
            to = builder.add(arguments[1], builder.mul(arguments[9], code.index(unit)))
            code.store(total, into, to)
        return context.get_dummy_value()

    integers = types.int64
    signature = types.void(
        out, integers, starts, integers, weights, integers, integers, x, integers, integers
    )
    return signature, build


@intrinsic
def transpose(typing, samples, places, place, feature, out, at, stride):
    """Set out[at + f stride + s] to samples[places[place + s] + feature + f], a vector of f and of s."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, out)
        read = pointer(context, builder, samples, arguments[0])
        rows = pointer(context, builder, places, arguments[1])
        into = pointer(context, builder, out, arguments[4])
        vectors = []
        for s in range(code.lanes):
            row = builder.load(builder.gep(rows, [builder.add(arguments[2], code.index(s))]))
            vectors.append(code.load(read, builder.add(row, arguments[3])))
        half, lanes = code.lanes // 2, code.lanes
        low = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
        while half >= 1:
            vectors = [
                code.part(vectors[i], [lane + part * lanes // 2 for lane in low], vectors[i + lanes // 2])
                for i in range(lanes // 2)
                for part in (0, 1)
            ]
            half //= 2
        for f, vector in enumerate(vectors):
            code.store(vector, into, builder.add(arguments[5], builder.mul(arguments[6], code.index(f))))
        return context.get_dummy_value()

    integers = types.int64
    return types.void(samples, places, integers, integers, out, integers, integers), build


@intrinsic
def rectify(typing, y, begin, end):
    """Set numbers ``y[begin:end]``, whole vectors, to 0 where they are negative."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, y)
        values = pointer(context, builder, y, arguments[0])
        zero = code.constant(0.0)

        def one(at: Any) -> list[Any]:
            value = code.load(values, at)
            code.store(builder.select(builder.fcmp_ordered("<=", value, zero), zero, value), values, at)
            return []

        loop(builder, arguments[1], arguments[2], code.lanes, [], one)
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64), build


@intrinsic
def rectified_gradient(typing, y, change, begin, end):
    """Set numbers ``change[begin:end]``, whole vectors, to 0 where ``y`` is not positive."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, y)
        values, changes = (pointer(context, builder, y, array) for array in arguments[:2])
        zero = code.constant(0.0)

        def one(at: Any) -> list[Any]:
            passes = builder.fcmp_ordered("<=", code.load(values, at), zero)
            code.store(builder.select(passes, zero, code.load(changes, at)), changes, at)
            return []

        loop(builder, arguments[2], arguments[3], code.lanes, [], one)
        return context.get_dummy_value()

    return types.void(y, change, types.int64, types.int64), build


@intrinsic
def total(typing, x, begin, end):
    """Return the sum of numbers ``x[begin:end]``, whole vectors."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, x)
        values = pointer(context, builder, x, arguments[0])

        def one(at: Any, so_far: Any) -> list[Any]:
            return [builder.fadd(so_far, code.load(values, at))]

        (sums,) = loop(builder, arguments[1], arguments[2], code.lanes, [code.constant(0.0)], one)
        return builder.extract_element(code.totals([sums] * 4), ir.Constant(ir.IntType(32), 0))

    return x.dtype(x, types.int64, types.int64), build


rows_sum = {vectors: _sum_of(vectors) for vectors in (1, 2, 4)}
rows_dot = {vectors: _dot_of(vectors) for vectors in (1, 2, 4)}
