#pragma once
// Tests that need a GPU are counted, so that a run that checked nothing on one says so.
#include <gtest/gtest.h>

#include "kernels/exec.h"

namespace realfake::testing {

struct CudaCount {
  int run = 0, skipped = 0;
};
CudaCount& cuda_count();

}  // namespace realfake::testing

// First line of a test that needs a GPU; `what` names the op or the network.
#define REALFAKE_NEEDS_CUDA(what)                                            \
  do {                                                                       \
    if (!::realfake::cuda_available()) {                                     \
      ++::realfake::testing::cuda_count().skipped;                           \
      GTEST_SKIP() << (what) << ": not run on cuda, no device answers here"; \
    }                                                                        \
    ++::realfake::testing::cuda_count().run;                                 \
  } while (false)
