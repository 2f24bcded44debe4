"""LLVM instructions on vectors of 64 bytes, from which the loops over samples in ``vectors`` are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["BYTES", "INDEX", "Code", "loop", "pointer"]

# Bytes of a vector.
BYTES = 64
# exp(r) for |r| <= log(2) / 2, to rounding in float32: coefficients of r², …, r⁶ as of the Taylor series.
LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.42860677e-06
LARGEST, SMALLEST = 88.3762626647949, -87.3

INDEX = ir.IntType(64)


class Code:
    """Instructions on vectors of the numbers of an array type."""

    def __init__(self, context: Any, builder: Any, array_type: Any) -> None:
        self.context, self.builder = context, builder
        self.number = context.get_value_type(array_type.dtype)
        self.lanes = BYTES // (array_type.dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        self.size = array_type.dtype.bitwidth // 8

    def index(self, value: int) -> Any:
        """Return a constant index."""
        return ir.Constant(INDEX, value)

    def load(self, pointer: Any, offset: Any, vector: int = 0) -> Any:
        """Return the vector at an offset, or one of those after it."""
        place = self.builder.gep(pointer, [self.builder.add(offset, self.index(vector * self.lanes))])
        loaded = self.builder.load(self.builder.bitcast(place, self.vector.as_pointer()))
        loaded.align = self.size
        return loaded

    def store(self, value: Any, pointer: Any, offset: Any, vector: int = 0) -> None:
        """Write a vector to an offset, or to one of the vectors after it."""
        place = self.builder.gep(pointer, [self.builder.add(offset, self.index(vector * self.lanes))])
        self.builder.store(value, self.builder.bitcast(place, value.type.as_pointer()), align=self.size)

    def splat(self, number: Any) -> Any:
        """Return a vector of one number."""
        vector = self.vector
        zero = ir.Constant(ir.IntType(32), 0)
        single = self.builder.insert_element(ir.Constant(vector, ir.Undefined), number, zero)
        order = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(single, single, order)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c, rounded once."""
        return self.called("fma", a, b, c)

    def called(self, name: str, *arguments: Any) -> Any:
        """Return an LLVM intrinsic's result for vectors of one type."""
        kind = arguments[0].type
        number = "f32" if self.size == 4 else "f64"
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [kind] * len(arguments)),
            f"llvm.{name}.v{kind.count}{number}",
        )
        return self.builder.call(function, arguments)

    def constant(self, value: float) -> Any:
        """Return a vector of a constant."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def exponential(self, x: Any) -> Any:
        """Return exp(x) of float32 to about one unit in the last place; libm's of float64."""
        if self.size == 8:
            return self.called("exp", x)
        b, constant = self.builder, self.constant
        clipped = self.called("minnum", self.called("maxnum", x, constant(SMALLEST)), constant(LARGEST))
        power = self.called("floor", self.fused(clipped, constant(LOG2_E), constant(0.5)))
        rest = self.fused(power, constant(-LN2_HIGH), clipped)
        rest = self.fused(power, constant(-LN2_LOW), rest)
        value = constant(1 / 5040)
        for divisor in (720, 120, 24, 6, 2, 1, 1):
            value = self.fused(value, rest, constant(1 / divisor))
        integers = ir.VectorType(ir.IntType(32), self.lanes)
        shift = b.add(b.fptosi(power, integers), ir.Constant(integers, [127] * self.lanes))
        scale = b.bitcast(b.shl(shift, ir.Constant(integers, [23] * self.lanes)), self.vector)
        value = b.fmul(value, scale)
        # NaN stays, and what underflows is 0.
        value = b.select(b.fcmp_ordered("<", x, constant(SMALLEST)), constant(0.0), value)
        return b.select(b.fcmp_unordered("uno", x, x), x, value)

    def part(self, vector: Any, lanes: Sequence[int], other: Any = None) -> Any:
        """Return lanes of a vector, or of it and another one after it."""
        order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        return self.builder.shuffle_vector(vector, vector if other is None else other, order)

    def totals(self, vectors: Sequence[Any]) -> Any:
        """Return the sums of 4 vectors as a vector of 4."""
        parts = list(vectors)
        while parts[0].type.count > 4:
            half = parts[0].type.count // 2
            parts = [
                self.builder.fadd(self.part(v, range(half)), self.part(v, range(half, 2 * half)))
                for v in parts
            ]
        a, b, c, d = parts
        ab = self.builder.fadd(self.part(a, [0, 2, 4, 6], b), self.part(a, [1, 3, 5, 7], b))
        cd = self.builder.fadd(self.part(c, [0, 2, 4, 6], d), self.part(c, [1, 3, 5, 7], d))
        return self.builder.fadd(self.part(ab, [0, 2, 4, 6], cd), self.part(ab, [1, 3, 5, 7], cd))


def pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Return the address of an array's first number."""
    return context.make_array(array_type)(context, builder, array).data


def loop(
    builder: Any, begin: Any, end: Any, step: int, carried: Sequence[Any], body: Callable[..., Any]
) -> list[Any]:
    """Build ``for k in range(begin, end, step)`` with values carried in registers; return the last ones."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(INDEX)
    k.add_incoming(begin, before)
    phis = []
    for value in carried:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        phis.append(phi)
    builder.cbranch(builder.icmp_signed("<", k, end), inside, after)
    builder.position_at_end(inside)
    values = body(k, *phis)
    last = builder.block
    k.add_incoming(builder.add(k, ir.Constant(INDEX, step)), last)
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, last)
    builder.branch(head)
    builder.position_at_end(after)
    return phis
