#pragma once
// The descriptions of all ops, one list per family.
#include <cmath>

#include "kernels/backend.h"
#include "tests/testing/op_case.h"

namespace realfake::testing {

std::vector<OpCase> normalization_cases();
std::vector<OpCase> activation_cases();
std::vector<OpCase> elementwise_cases();
std::vector<OpCase> gemm_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> convolution_cases();
std::vector<OpCase> pooling_cases();
std::vector<OpCase> embedding_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> optimizer_cases();
std::vector<OpCase> diffusion_cases();
std::vector<OpCase> image_cases();
std::vector<OpCase> reduce_cases();
std::vector<OpCase> random_cases();

inline std::vector<OpCase> join(std::initializer_list<std::vector<OpCase>> lists) {
  std::vector<OpCase> all;
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

inline std::vector<OpCase> all_cases() {
  return join({normalization_cases(), activation_cases(), elementwise_cases(), gemm_cases(),
               attention_cases(), convolution_cases(), pooling_cases(), embedding_cases(),
               loss_cases(), optimizer_cases(), diffusion_cases(), image_cases(), reduce_cases(),
               random_cases()});
}

// Sizes as unsigned indices of Numbers.
inline size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

// A tensor left out of a call.
inline const Tensor kNone{};
inline const GradOut kNoGrad{};

}  // namespace realfake::testing
