#pragma once
// Recordings of tests/golden (what PyTorch and diffusers computed), and the project's limits for
// agreeing with them. Files hold PyTorch's layouts: images NCHW, turned to NHWC on the way in and
// back on the way out.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/exec.h"
#include "model/parameters.h"
#include "model/safetensors.h"
#include "tests/testing/op_case.h"

namespace realfake::testing {

inline std::filesystem::path golden_dir() {
  return std::filesystem::path(REALFAKE_SOURCE_DIR) / "tests" / "golden";
}

// (N,C,P) <-> (N,P,C)
inline Numbers turn_images(const Numbers& v, int64_t n, int64_t c, int64_t p, bool to_nhwc) {
  Numbers out(v.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < c; ++k)
      for (int64_t q = 0; q < p; ++q) {
        const auto nchw = static_cast<size_t>((i * c + k) * p + q);
        const auto nhwc = static_cast<size_t>((i * p + q) * c + k);
        if (to_nhwc)
          out[nhwc] = v[nchw];
        else
          out[nchw] = v[nhwc];
      }
  return out;
}

// Host values of (N,H,W,C), in the order (N,C,H,W).
inline Numbers download_nchw(Exec& ex, const Tensor& x) {
  return turn_images(download(ex, x), x.dim(0), x.dim(3), x.dim(1) * x.dim(2), false);
}

class Golden {
 public:
  // "odd/cases/unet/in", below tests/golden and without ".safetensors".
  explicit Golden(const std::string& name) : file_(golden_dir() / (name + ".safetensors")) {}

  const std::vector<std::string>& names() const { return file_.names(); }
  bool has(const std::string& name) const { return file_.has(name); }
  Shape shape(const std::string& name) const { return Shape(file_.info(name).shape); }
  Numbers values(const std::string& name) const {
    const std::vector<float> v = file_.read_f32(name);
    return {v.begin(), v.end()};
  }
  double scalar(const std::string& name) const { return values(name).at(0); }
  std::vector<int64_t> integers(const std::string& name) const { return file_.read_i64(name); }

  Tensor tensor(Exec& ex, const std::string& name, DType dtype = DType::f32) const {
    return upload(ex, values(name), shape(name), dtype);
  }
  Tensor image(Exec& ex, const std::string& name, DType dtype = DType::f32) const {
    const Shape s = shape(name);
    return upload(ex, turn_images(values(name), s[0], s[1], s[2] * s[3], true),
                  {s[0], s[2], s[3], s[1]}, dtype);
  }
  Tensor ids(Exec& ex, const std::string& name) const {
    return ex.from_vector(integers(name), shape(name));
  }

 private:
  SafetensorsFile file_;
};

struct Distance {
  double max_abs = 0, squares = 0, expected_squares = 0;
  bool comparable = true;
  double nmse() const { return squares / expected_squares; }
};
inline Distance distance(const Numbers& actual, const Numbers& expected) {
  Distance d;
  d.comparable = actual.size() == expected.size() && !actual.empty();
  for (size_t i = 0; d.comparable && i < actual.size(); ++i) {
    const double e = actual[i] - expected[i];
    if (!std::isfinite(e)) d.comparable = false;
    d.max_abs = std::max(d.max_abs, std::abs(e));
    d.squares += e * e;
    d.expected_squares += expected[i] * expected[i];
  }
  return d;
}

// An output in fp32: max |a-b| <= 1e-4 and NMSE <= 1e-9.
inline void expect_parity(const Numbers& actual, const Numbers& expected, const std::string& what,
                          double max_abs = 1e-4, double nmse = 1e-9) {
  const Distance d = distance(actual, expected);
  EXPECT_TRUE(d.comparable) << what << ": " << actual.size() << " values for " << expected.size()
                            << ", or one that is not finite";
  EXPECT_LE(d.max_abs, max_abs) << what;
  EXPECT_LE(d.nmse(), nmse) << what;
}

// A gradient: |a-b| <= 1e-4 |b| in the norm of the tensor. `size` is that of the whole recording's
// gradients: a gradient that is 0 in exact arithmetic (the bias of a key, which softmax ignores) is
// held to 1e-7 of it.
inline void expect_gradient(const Numbers& actual, const Numbers& expected, const std::string& what,
                            double size) {
  const Distance d = distance(actual, expected);
  EXPECT_TRUE(d.comparable) << what;
  EXPECT_LE(std::sqrt(d.squares), 1e-4 * std::sqrt(d.expected_squares) + 1e-7 * size) << what;
}

// Norm of all the tensors whose name starts with `prefix`.
inline double norm_of(const Golden& g, const std::string& prefix) {
  double squares = 0;
  for (const std::string& name : g.names())
    if (name.rfind(prefix, 0) == 0)
      for (const double v : g.values(name)) squares += v * v;
  return std::sqrt(squares);
}

inline Numbers in_file_layout(const Parameters& all, const Parameter& p, const Tensor& value) {
  Parameter copy = p;
  copy.value = value;
  const std::vector<float> v = all.to_file(copy);
  return {v.begin(), v.end()};
}

// Compares the gradients of `parameters` with every tensor "<prefix><name>" of the recording;
// returns how many.
inline int expect_gradients(const Parameters& parameters, const Golden& g,
                            const std::string& prefix) {
  const double size = norm_of(g, "grad.");
  int compared = 0;
  for (const std::string& name : g.names()) {
    if (name.rfind(prefix, 0) != 0) continue;
    const Param p = parameters.find(name.substr(prefix.size()));
    if (!p) continue;
    if (!p->slot || !p->slot->arrived) {
      ADD_FAILURE() << name << ": no gradient arrived";
      continue;
    }
    expect_gradient(in_file_layout(parameters, *p, p->slot->grad), g.values(name), name, size);
    ++compared;
  }
  return compared;
}

// A trainable input of a network.
inline Var leaf(const Tensor& value) {
  return Var(value, std::make_shared<GradSlot>());
}

}  // namespace realfake::testing
