#pragma once
// Differentiable functions: each is one op pair of kernels/ (or two) on a tape. Shapes as in the
// op's contract.
#include "kernels/activation.h"
#include "kernels/convolution.h"
#include "model/tape.h"

namespace realfake {

Var linear(Tape&, const Var& x, const Var& w, const Var& bias);
// down (R,K), up (N,R); w and bias frozen.
Var lora_linear(Tape&, const Var& x, const Var& w, const Var& bias, const Var& down, const Var& up,
                double scale);
Var conv2d(Tape&, const Var& x, const Var& w, const Var& bias, ConvParams);
Var group_norm(Tape&, const Var& x, const Var& gamma, const Var& beta, int64_t groups, double eps,
               bool silu);
Var layer_norm(Tape&, const Var& x, const Var& gamma, const Var& beta, double eps);
// Training statistics when `training`, and the running ones are updated in place.
Var batch_norm(Tape&, const Var& x, const Var& gamma, const Var& beta, const Tensor& running_mean,
               const Tensor& running_var, const Var& residual, double eps, double momentum,
               bool relu, bool training);
Var activate(Tape&, const Var& x, Activation);
Var geglu(Tape&, const Var& x);
Var attention(Tape&, const Var& q, const Var& k, const Var& v, int64_t heads, double scale,
              bool causal);

Var add(Tape&, const Var& a, const Var& b);
Var scale(Tape&, const Var& x, double factor);
Var add_broadcast(Tape&, const Var& x, const Var& v);  // x (N,...,C) + v (N,C)
Var reshape(Tape&, const Var& x, const Shape& shape);
Var concat_columns(Tape&, const Var& a, const Var& b);            // last dimension
Var upsample_nearest(Tape&, const Var& x, int64_t h, int64_t w);  // to (h, w)
Var global_average_pool(Tape&, const Var& x);
Var max_pool(Tape&, const Var& x, int kernel, int stride, int padding);
Var embedding(Tape&, const Var& table, const Tensor& ids);
Var add_positions(Tape&, const Var& x, const Var& pos);
Var prepend_token(Tape&, const Var& token, const Var& x);  // (D), (B,P,D) -> (B,1+P,D)
Var gather_tokens(Tape&, const Var& x, const Tensor& index);
Var l2_normalize(Tape&, const Var& x);
Var product_nt(Tape&, const Var& a, const Var& b);            // a (M,K) b (N,K)^T
Var scale_by_exp(Tape&, const Var& x, const Var& log_scale);  // x exp(s), s (1)

Var weighted_mse(Tape&, const Var& a, const Tensor& b, const Tensor& w);
Var matching_sum(Tape&, const Var& a, const Tensor& b, const Tensor& w);
Var mmd_rbf(Tape&, const Var& a, const Tensor& b);
Var cross_entropy(Tape&, const Var& logits, const Tensor& target, double smoothing);
Var kl_divergence(Tape&, const Var& moments);
Var posterior_sample(Tape&, const Var& moments, const Tensor& noise, double factor);
// a + weight b for scalars.
Var add_weighted(Tape&, const Var& a, const Var& b, double weight);

}  // namespace realfake
