#include "tests/testing/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>

namespace realfake::testing {

Comparison check_gradient(const std::function<double()>& loss,
                          const std::function<double&(int64_t)>& x, const Numbers& analytic,
                          const GradCheck& o) {
  Comparison result;
  std::ostringstream text;
  text.precision(10);
  const int64_t n = static_cast<int64_t>(analytic.size());
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double g = analytic[static_cast<size_t>(i)];
    if (!std::isfinite(g)) {
      text << "gradient[" << i << "] is " << g;
      result.worst = i;
      result.text = text.str();
      return result;
    }
    squares += g * g;
  }
  const double rms = n ? std::sqrt(squares / static_cast<double>(n)) : 0;
  if (!(rms > 0) && !o.zero_allowed) {
    result.text = "the gradient is zero everywhere: nothing is checked";
    return result;
  }
  const double here = loss();
  if (!std::isfinite(here)) {
    text << "the loss is " << here;
    result.text = text.str();
    return result;
  }
  const double atol = o.atol + 1e-15 * std::abs(here) / o.step;
  result.ok = true;

  const auto judge = [&](double difference, double expected, double scale, int64_t where,
                         const char* what) {
    const double error = std::abs(difference - expected);
    const double allowed = o.rtol * (scale + std::abs(expected)) + atol;
    const double percent = 100 * error / allowed;
    if (!(error <= allowed)) result.ok = false;
    if (result.worst < 0 || !(percent <= result.percent)) {
      result.percent = percent;
      result.max_abs = error;
      result.worst = where;
      text.str("");
      text << what << " " << where << ": gradient " << expected << ", central difference "
           << difference << "; " << percent << " % of limit " << allowed;
    }
  };

  std::mt19937_64 random(o.seed);
  const int64_t count = n <= o.all_up_to ? n : o.elements;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i =
        n <= o.all_up_to ? k : static_cast<int64_t>(random() % static_cast<uint64_t>(n));
    double& value = x(i);
    const double old = value;
    value = old + o.step;
    const double up = loss(), above = value;
    value = old - o.step;
    const double down = loss(), below = value;
    value = old;
    judge((up - down) / (above - below), analytic[static_cast<size_t>(i)], rms, i, "element");
  }
  if (n > o.all_up_to) {
    // Along a random direction of signs every element takes part.
    for (int p = 0; p < o.projections; ++p) {
      std::vector<signed char> sign(static_cast<size_t>(n));
      Numbers old(static_cast<size_t>(n));
      double expected = 0;
      for (int64_t i = 0; i < n; ++i) {
        const size_t at = static_cast<size_t>(i);
        sign[at] = random() & 1 ? 1 : -1;
        old[at] = x(i);
        expected += sign[at] * analytic[at];
      }
      const auto move = [&](double by) {
        for (int64_t i = 0; i < n; ++i)
          x(i) = old[static_cast<size_t>(i)] + by * sign[static_cast<size_t>(i)];
        return loss();
      };
      const double up = move(o.step), down = move(-o.step);
      move(0);
      judge((up - down) / (2 * o.step), expected, rms * std::sqrt(static_cast<double>(n)), p,
            "projection");
    }
  }
  result.text = text.str();
  return result;
}

}  // namespace realfake::testing
