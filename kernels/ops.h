#pragma once
// What every op header shares. Letters of shapes, used everywhere:
//   N batch   C channels   H, W height and width   T, S query and key length   D feature width
//   B batch of sequences   h heads   G groups   K classes, or the inner length of a product   R
//   LoRA rank
//
// Form of an op: outputs first, then inputs, then numbers. Forward and backward are an explicit
// pair. Public functions (declared in the family headers, defined in kernels/ops/) check shapes and
// dtypes and throw ContractError "[op] ..."; the implementations behind the table assume them.
// Unless a contract says otherwise: T is f32 (all devices) or f64 (cpu only); all tensors of a call
// live on the Exec's device; rows may be strided (Tensor::row_stride) in gemm, attention,
// normalization, activation, elementwise and column_sum, and are dense elsewhere; outputs do not
// overlap inputs; no float atomics, so equal calls give equal bytes.
#include "kernels/exec.h"
#include "kernels/tensor.h"

namespace realfake {

using Out = const Tensor&;  // written
using In = const Tensor&;   // read

// What to do with one gradient: not wanted; write it; add to what is there.
enum class Grad : uint8_t { ignore, overwrite, accumulate };
struct GradOut {
  Tensor tensor;
  Grad mode = Grad::ignore;
  bool wanted() const { return mode != Grad::ignore; }
  bool accumulate() const { return mode == Grad::accumulate; }
};

// Work of one call, for benchmark and test alike: bytes that must move at least once, and
// arithmetic.
struct OpCost {
  double bytes = 0, flops = 0;
};

}  // namespace realfake
