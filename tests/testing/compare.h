#pragma once
// The one comparer of all tests. A value that is not finite is always a failure: every test of an
// error is written `!(error <= limit)`.
#include <cstdint>
#include <string>
#include <vector>

namespace realfake::testing {

using Numbers = std::vector<double>;  // host values of a tensor, row-major, whatever its dtype

// |a - b| <= c eps sqrt(reduction) max(rms(expected), magnitude) + tiny.
struct Limit {
  double c = 8;
  double eps = 1.1920928955078125e-7;  // 2^-23, float
  double reduction = 1;                // how many rounded terms one value sums
  double magnitude = 0;  // size of the terms where they cancel; 0: the values' own rms
  double tiny = 1e-12;
  bool exact = false;  // bit-equal instead

  static Limit bits() {
    Limit limit;
    limit.exact = true;
    return limit;
  }
};

struct Comparison {
  bool ok = false;
  std::string
      text;  // max abs, max rel, rms, worst index, "x % of limit"; or why there is no comparison
  double max_abs = 0, percent = 0;
  int64_t worst = -1;
};

Comparison compare(const Numbers& actual, const Numbers& expected, const Limit& limit = {});

// Same signs of zero and same bit patterns of NaN: for "this input was not touched".
bool same_bits(const Numbers& a, const Numbers& b);

}  // namespace realfake::testing
