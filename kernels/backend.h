#pragma once
// The table of op implementations, one per executor. A public op checks its arguments and calls
// through the Exec's table; `cpu`, `cuda` and `emulated` are namespaces that define the same names
// with the same signatures. An op that is a composition of others (linear, lora_linear, ...) lives
// in kernels/ops/ alone.
//
// To add an op: declare it in its family header, add its name to REALFAKE_OPS, write the check in
// kernels/ops/, the loop in kernels/cpu/, the kernel and launcher in kernels/cuda/, and one
// description in tests/kernels/.
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/convolution.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/image.h"
#include "kernels/loss.h"
#include "kernels/normalization.h"
#include "kernels/optimizer.h"
#include "kernels/pool.h"
#include "kernels/pooling.h"
#include "kernels/random.h"
#include "kernels/reduce.h"

// (The formatter lays such lists out differently each time, so it is off here.)
// clang-format off
// Products and convolutions: libraries on cpu and cuda; `emulated` borrows the cpu's.
#define REALFAKE_LIBRARY_OPS(X) \
  X(gemm) X(conv2d_forward) X(conv2d_backward_data) X(conv2d_backward_weight)

// Hand-written on every executor.
#define REALFAKE_KERNEL_OPS(X) \
  X(group_norm_forward) X(group_norm_backward) X(layer_norm_forward)                    \
  X(layer_norm_backward) X(batch_norm_forward) X(batch_norm_backward)                   \
  X(batch_norm_inference) X(l2_normalize_forward) X(l2_normalize_backward)              \
  X(activation_forward) X(activation_backward) X(geglu_forward) X(geglu_backward)       \
  X(softmax_forward) X(softmax_backward) X(attention_forward) X(attention_backward)     \
  X(fill) X(copy) X(add) X(scale) X(multiply) X(add_broadcast) X(sum_middle)            \
  X(scale_samples) X(cast) X(column_sum) X(sum_all) X(sum_squares) X(max_abs)           \
  X(count_nonfinite) X(argmax_rows) X(global_average_pool_forward)                      \
  X(global_average_pool_backward) X(max_pool_forward) X(max_pool_backward)              \
  X(upsample_nearest_forward) X(upsample_nearest_backward) X(embedding_forward)         \
  X(embedding_backward) X(timestep_embedding) X(add_positions) X(sum_leading)           \
  X(gather_tokens_forward) X(gather_tokens_backward) X(weighted_mse_forward)            \
  X(weighted_mse_backward) X(matching_sum_forward) X(matching_sum_backward)             \
  X(mmd_rbf_forward) X(mmd_rbf_backward) X(cross_entropy_forward)                       \
  X(cross_entropy_backward) X(one_hot) X(kl_forward) X(kl_backward) X(adamw_step)       \
  X(sgd_step) X(global_norm) X(ema_update) X(combine_samples)                           \
  X(posterior_sample_forward) X(posterior_sample_backward) X(guided_step)               \
  X(random_normal) X(random_uniform) X(random_normal_samples) X(normalize_u8)           \
  X(quantize_u8) X(affine_sample) X(flip_horizontal) X(mix_samples) X(pairwise_squared)
// clang-format on

#define REALFAKE_OPS(X) REALFAKE_LIBRARY_OPS(X) REALFAKE_KERNEL_OPS(X)

namespace realfake {

// One pointer per op, each of the public op's type.
struct OpTable {
#define REALFAKE_FIELD(name) decltype(&realfake::name) name = nullptr;
  REALFAKE_OPS(REALFAKE_FIELD)
#undef REALFAKE_FIELD
};

// What an executor is made of. `cuda_executor` is null where there is no toolkit (kernels/no_cuda).
struct Executor {
  const OpTable* table;
  RawMemory memory;
  bool (*available)();       // can it run here and now?
  void* (*open)(int index);  // device + stream; throws GpuError
  void (*close)(void* stream);
  void (*synchronize)(void* stream);
};
const Executor* cpu_executor();
const Executor* emulated_executor();
const Executor* cuda_executor();

// Declares every op in a backend's namespace, with the type of its public contract.
#define REALFAKE_DECLARE(name) decltype(realfake::name) name;
namespace cpu {
REALFAKE_OPS(REALFAKE_DECLARE)
}
namespace emulated {
REALFAKE_KERNEL_OPS(REALFAKE_DECLARE)
}
namespace cuda {
REALFAKE_OPS(REALFAKE_DECLARE)
}
#undef REALFAKE_DECLARE

}  // namespace realfake
