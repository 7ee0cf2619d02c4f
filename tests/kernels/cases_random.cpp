#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

constexpr uint64_t kSeed = 0x123456789abcdefull, kFirstSample = 41;

// What the host generator draws for each sample: the device must draw the same.
Numbers host_draws(const Shape& x, const Numbers& samples, bool is_normal) {
  Numbers y;
  for (const double sample : samples) {
    Philox philox(kSeed, Stream::user, static_cast<uint64_t>(sample));
    for (int64_t k = 0; k < x.numel() / x[0]; ++k)
      y.push_back(is_normal ? philox.normal() : philox.uniform());
  }
  return y;
}

OpCase random_case(const std::string& name, const Shape& x, bool is_normal) {
  OpCase o;
  o.name = (is_normal ? "random_normal_" : "random_uniform_") + name;
  o.outputs = {{.shape = x, .exact = !is_normal}};
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors&) {
    if (is_normal)
      random_normal(ex, out[0], kSeed, Stream::user, kFirstSample);
    else
      random_uniform(ex, out[0], kSeed, Stream::user, kFirstSample);
  };
  o.reference = [=](const std::vector<Numbers>&) {
    Numbers samples;
    for (int64_t i = 0; i < x[0]; ++i)
      samples.push_back(static_cast<double>(kFirstSample) + static_cast<double>(i));
    return std::vector<Numbers>{host_draws(x, samples, is_normal)};
  };
  return o;
}

OpCase by_sample() {
  const Shape x{3, 5, 7};
  OpCase o;
  o.name = "random_normal_samples";
  o.inputs = {{.shape = {3}, .fill = given({77, 3, 41}), .dtype = DType::i64}};
  o.outputs = {{.shape = x}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    random_normal_samples(ex, out[0], kSeed, Stream::user, in[0]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    return std::vector<Numbers>{host_draws(x, in[0], true)};
  };
  return o;
}

}  // namespace

std::vector<OpCase> random_cases() {
  return {
      random_case("odd", {3, 5, 7}, true),
      random_case("large", {2, 33, 67}, true),
      random_case("odd", {3, 5, 7}, false),
      random_case("large", {2, 33, 67}, false),
      by_sample(),
  };
}

}  // namespace realfake::testing
