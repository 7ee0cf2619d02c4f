#pragma once
// Analytic gradients against central differences, in double.
#include <functional>

#include "tests/testing/compare.h"

namespace realfake::testing {

struct GradCheck {
  double step = 1e-5;
  double rtol = 1e-6;       // of (rms of the gradient + the value itself)
  double atol = 1e-9;       // what rounding of the loss leaves: raised by 1e-15 |loss| / step
  int64_t all_up_to = 250;  // larger tensors: some elements at random, and projections of all
  int64_t elements = 10;
  int projections = 4;
  bool zero_allowed = false;  // the gradient is known to vanish
  uint64_t seed = 1;
};

// `loss` evaluates at the present point, `x(i)` gives access to element i of the point (restored
// after). A gradient that is zero everywhere fails too, unless allowed: such a case would check
// nothing.
Comparison check_gradient(const std::function<double()>& loss,
                          const std::function<double&(int64_t)>& x, const Numbers& analytic,
                          const GradCheck& options = {});

}  // namespace realfake::testing
