// The main of every test program: gtest, then one line that counts what ran on a GPU. With
// REQUIRE_CUDA=1 a skipped GPU test makes the program fail.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/testing/cuda_count.h"

namespace realfake::testing {

CudaCount& cuda_count() {
  static CudaCount count;
  return count;
}

}  // namespace realfake::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int status = RUN_ALL_TESTS();
  const auto& count = realfake::testing::cuda_count();
  std::printf("cuda: %d run, %d skipped\n", count.run, count.skipped);
  const char* required = std::getenv("REQUIRE_CUDA");
  if (required && std::string_view(required) == "1" && count.skipped > 0) {
    std::printf("REQUIRE_CUDA=1: %d tests that need a GPU did not run\n", count.skipped);
    if (status == 0) status = 1;
  }
  return status;
}
