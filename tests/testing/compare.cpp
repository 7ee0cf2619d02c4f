#include "tests/testing/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

namespace realfake::testing {

bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

Comparison compare(const Numbers& actual, const Numbers& expected, const Limit& limit) {
  Comparison result;
  std::ostringstream text;
  text.precision(6);
  if (actual.size() != expected.size()) {
    text << actual.size() << " values, expected " << expected.size();
    result.text = text.str();
    return result;
  }
  double squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const auto* side : {&actual, &expected}) {
      if (std::isfinite((*side)[i])) continue;
      text << (side == &actual ? "actual" : "expected") << "[" << i << "] is " << (*side)[i];
      result.worst = static_cast<int64_t>(i);
      result.text = text.str();
      return result;
    }
    squares += expected[i] * expected[i];
  }
  const double rms =
      expected.empty() ? 0 : std::sqrt(squares / static_cast<double>(expected.size()));
  const double allowed = limit.exact
                             ? 0
                             : limit.c * limit.eps * std::sqrt(std::max(1.0, limit.reduction)) *
                                       std::max(rms, limit.magnitude) +
                                   limit.tiny;
  double max_rel = 0;
  bool ok = true;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    const bool good =
        limit.exact ? std::memcmp(&actual[i], &expected[i], sizeof(double)) == 0 : error <= allowed;
    if (expected[i] != 0) max_rel = std::max(max_rel, error / std::abs(expected[i]));
    if (error > result.max_abs || (!good && ok) || result.worst < 0) {
      result.max_abs = std::max(error, result.max_abs);
      result.worst = static_cast<int64_t>(i);
    }
    if (!good) ok = false;
  }
  result.ok = ok;
  result.percent = allowed > 0 ? 100 * result.max_abs / allowed : (ok ? 0 : 1e9);
  text << "max abs " << result.max_abs << " (max rel " << max_rel << ", rms of expected " << rms
       << ") at index " << result.worst;
  if (result.worst >= 0) {
    text.precision(17);
    text << ": " << actual[static_cast<size_t>(result.worst)] << ", expected "
         << expected[static_cast<size_t>(result.worst)];
    text.precision(4);
  }
  if (limit.exact)
    text << (ok ? "; bit-equal" : "; not bit-equal");
  else
    text << "; " << result.percent << " % of limit " << allowed;
  result.text = text.str();
  return result;
}

}  // namespace realfake::testing
