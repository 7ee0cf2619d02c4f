#pragma once
#include "kernels/ops.h"

namespace realfake {

// y (..., D) = table (V,D)[ids (...)] , ids i64.  ContractError when an id lies outside on a host
// device; on cuda an id outside gives zeros.
void embedding_forward(Exec&, Out y, In table, In ids);
// dtable (V,D) += / = rows of dy summed by id, in the order of ids.
void embedding_backward(Exec&, GradOut dtable, In dy, In ids);

// y (N,D): sin/cos features of timestep t i64 (N), diffusers get_timestep_embedding: half = D/2,
// freq_i = exp(-ln(10000) i / (half - shift)); flip_sin_to_cos puts cos first.  requires D even.
void timestep_embedding(Exec&, Out y, In t, bool flip_sin_to_cos, double shift);

// y (B,T,D) = x (B,T,D) + pos (T,D) broadcast over the batch.  y may be x.  The gradient of pos is
// sum_leading.
void add_positions(Exec&, Out y, In x, In pos);
// out (...) = sum over the leading dimension of x (B,...).
void sum_leading(Exec&, GradOut out, In x);

// y (N, D) = x (N, T, D)[n, index[n], :], index i64 (N).  Backward scatters into zeros (or adds).
void gather_tokens_forward(Exec&, Out y, In x, In index);
void gather_tokens_backward(Exec&, GradOut dx, In dy, In index);

}  // namespace realfake
