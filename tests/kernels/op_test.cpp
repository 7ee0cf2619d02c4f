// Every op description on every executor: five modes, one gtest instance each.
#include <gtest/gtest.h>

#include "tests/kernels/cases.h"
#include "tests/testing/cuda_count.h"

namespace realfake::testing {

namespace {

std::vector<OpCase> selected(bool (*wanted)(const OpCase&)) {
  std::vector<OpCase> cases;
  for (OpCase& c : all_cases())
    if (wanted(c)) cases.push_back(std::move(c));
  return cases;
}
bool every(const OpCase&) {
  return true;
}
bool has_backward(const OpCase& c) {
  return static_cast<bool>(c.backward);
}
bool has_reference(const OpCase& c) {
  return static_cast<bool>(c.reference);
}

std::string name_of_case(const ::testing::TestParamInfo<OpCase>& info) {
  return info.param.name;
}

void report(const Findings& findings) {
  for (const std::string& finding : findings) ADD_FAILURE() << finding;
}

class Ops : public ::testing::TestWithParam<OpCase> {};
class OpGradient : public Ops {};
class OpReference : public Ops {};
class OpCpu : public Ops {};
class OpEmulated : public Ops {};
class OpCuda : public Ops {};

TEST_P(OpGradient, Check) {
  report(check_gradients(GetParam()));
}
TEST_P(OpReference, Check) {
  report(check_reference(GetParam()));
}
TEST_P(OpCpu, Check) {
  report(check_precision(GetParam()));
}
TEST_P(OpEmulated, Check) {
  report(check_emulated(GetParam()));
}
TEST_P(OpCuda, Check) {
  REALFAKE_NEEDS_CUDA(GetParam().name);
  report(check_executor(GetParam(), Device::cuda));
}

INSTANTIATE_TEST_SUITE_P(All, OpGradient, ::testing::ValuesIn(selected(has_backward)),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(All, OpReference, ::testing::ValuesIn(selected(has_reference)),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(All, OpCpu, ::testing::ValuesIn(selected(every)), name_of_case);
INSTANTIATE_TEST_SUITE_P(All, OpEmulated, ::testing::ValuesIn(selected(every)), name_of_case);
INSTANTIATE_TEST_SUITE_P(All, OpCuda, ::testing::ValuesIn(selected(every)), name_of_case);

}  // namespace

}  // namespace realfake::testing
