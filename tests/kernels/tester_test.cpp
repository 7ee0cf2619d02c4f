// A test of the tester: each fault planted here must be found. A checker that cannot fail checks
// nothing.
#define REALFAKE_EMULATED 1
#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/launch.h"
#include "tests/kernels/cases.h"
#include "tests/testing/gradcheck.h"

namespace realfake::emulated {

// y_b = sum of |x| over block b's 256 values, then of x: two reductions through one shared array.
// Without the barrier that ends the first, a warp that runs ahead overwrites what a slower one has
// still to read.
template <bool Barrier>
RF_KERNEL void two_sums_kernel(float* y, const float* x) {
  RF_SHARED(float, partial, 8);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const float own = x[blockIdx.x * blockDim.x + threadIdx.x];
  float total = 0;
  for (int pass = 0; pass < 2; ++pass) {
    float v = pass == 0 ? (own < 0 ? -own : own) : own;
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += partial[i];
    if (Barrier) __syncthreads();
    total = pass == 0 ? sum : total + sum;
  }
  // The last warp's copy: in ascending order it is the one that arrives last.
  if (threadIdx.x == 0) y[2 * blockIdx.x] = total;
  if (threadIdx.x == blockDim.x - 1) y[2 * blockIdx.x + 1] = total;
}

template <bool Barrier>
void two_sums(Exec& ex, const Tensor& y, const Tensor& x) {
  launch(two_sums_kernel<Barrier>, dim3(static_cast<unsigned>(x.numel() / 256)), dim3(256), 0, ex,
         y.data<float>(), x.data<float>());
}

}  // namespace realfake::emulated

namespace realfake::testing {

namespace {

bool mentions(const Findings& findings, const std::string& words) {
  for (const std::string& f : findings)
    if (f.find(words) != std::string::npos) return true;
  return false;
}
std::string lines(const Findings& findings) {
  std::string all;
  for (const std::string& f : findings) all += f + "\n";
  return all.empty() ? "no findings" : all;
}

OpCase case_named(const std::vector<OpCase>& cases, const std::string& name) {
  for (const OpCase& c : cases)
    if (c.name == name) return c;
  throw std::logic_error("no case " + name);
}

// y = x on host devices, with a fault of choice.
OpCase copier(std::function<void(const Tensors& out, const Tensors& in)> fault) {
  OpCase o;
  o.name = "faulty_copy";
  o.inputs = {{.shape = {3, 5}, .gradient = true}};
  o.outputs = {{.shape = {3, 5}, .exact = true}};
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    copy(ex, out[0], in[0]);
    fault(out, in);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) { accumulate_into(ex, g[0], dout[0]); };
  return o;
}

void set(const Tensor& t, int64_t i, double value) {
  if (t.dtype() == DType::f64)
    t.data<double>()[i] = value;
  else
    t.data<float>()[i] = static_cast<float>(value);
}

TEST(Tester, HealthyCaseHasNoFindings) {
  const OpCase good = copier([](const Tensors&, const Tensors&) {});
  EXPECT_TRUE(check_gradients(good).empty()) << lines(check_gradients(good));
  EXPECT_TRUE(check_precision(good).empty()) << lines(check_precision(good));
  EXPECT_TRUE(check_executor(good, Device::emulated).empty());
}

TEST(Tester, ScaledSoftmaxGradientIsFound) {
  OpCase c = case_named(activation_cases(), "softmax_d7");
  const auto right = c.backward;
  c.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    const Tensor three = ex.clone(dout[0]);
    scale(ex, three, three, 3);
    right(ex, g, in, out, {three});
  };
  EXPECT_TRUE(mentions(check_gradients(c), "central difference")) << lines(check_gradients(c));
}

TEST(Tester, MissingDotTermOfSoftmaxIsFound) {
  OpCase c = case_named(activation_cases(), "softmax_d7");
  c.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors& out,
                  const Tensors& dout) {
    multiply(ex, g[0].tensor, dout[0], out[0], g[0].accumulate());
  };
  EXPECT_TRUE(mentions(check_gradients(c), "central difference"));
}

TEST(Tester, GradientThatIgnoresItsModeIsFound) {
  OpCase always_writes = copier([](const Tensors&, const Tensors&) {});
  always_writes.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&,
                              const Tensors&,
                              const Tensors& dout) { copy(ex, g[0].tensor, dout[0]); };
  EXPECT_TRUE(mentions(check_gradients(always_writes), "accumulated"));

  OpCase always_adds = copier([](const Tensors&, const Tensors&) {});
  always_adds.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                            const Tensors& dout) { scale(ex, g[0].tensor, dout[0], 1, true); };
  EXPECT_TRUE(mentions(check_gradients(always_adds), "nan"));
}

TEST(Tester, UnwrittenOutputIsFound) {
  OpCase c = copier([](const Tensors&, const Tensors&) {});
  c.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    copy(ex, out[0].slice(0, 2), in[0].slice(0, 2));
  };
  EXPECT_TRUE(mentions(check_precision(c), "nan")) << lines(check_precision(c));
}

TEST(Tester, NanIsNeverAPass) {
  const OpCase c = copier([](const Tensors& out, const Tensors&) {
    set(out[0], 7, std::numeric_limits<double>::quiet_NaN());
  });
  EXPECT_FALSE(check_gradients(c).empty());
  EXPECT_FALSE(check_precision(c).empty());

  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(compare({1, nan}, {1, nan}).ok);
  EXPECT_FALSE(compare({1, nan}, {1, 2}).ok);
  EXPECT_FALSE(compare({1, 2}, {1, nan}, Limit::bits()).ok);
  EXPECT_FALSE(compare({1}, {std::numeric_limits<double>::infinity()}).ok);
  double x = 1;
  const auto loss = [&] { return x > 1 ? nan : x; };
  EXPECT_FALSE(check_gradient(loss, [&](int64_t) -> double& { return x; }, {1}).ok);
}

TEST(Tester, ZeroGradientChecksNothing) {
  double x = 1;
  const auto loss = [] { return 4.0; };
  EXPECT_FALSE(check_gradient(loss, [&](int64_t) -> double& { return x; }, {0}).ok);
}

TEST(Tester, LargeGradientsAreCheckedAlongDirections) {
  Numbers x(5000, 0.5), right(5000);
  const auto loss = [&] {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += x[i] * x[i] * static_cast<double>(i % 7 + 1);
    return sum;
  };
  for (size_t i = 0; i < x.size(); ++i) right[i] = 2 * x[i] * static_cast<double>(i % 7 + 1);
  const auto at_point = [&](int64_t i) -> double& { return x[static_cast<size_t>(i)]; };
  GradCheck few;
  few.elements = 3;
  EXPECT_TRUE(check_gradient(loss, at_point, right, few).ok);
  Numbers wrong = right;
  wrong[4321] += 1;  // one bad element of 5000, which random elements would miss
  EXPECT_FALSE(check_gradient(loss, at_point, wrong, few).ok);
}

TEST(Tester, LimitFollowsTheFormula) {
  Limit limit;
  limit.c = 8;
  limit.reduction = 4;
  const double allowed = 8 * limit.eps * 2 * 1.0;  // rms 1
  EXPECT_TRUE(compare({1 + 0.99 * allowed, -1}, {1, -1}, limit).ok);
  const Comparison over = compare({1, -1 - 1.01 * allowed}, {1, -1}, limit);
  EXPECT_FALSE(over.ok);
  EXPECT_EQ(over.worst, 1);
  EXPECT_NE(over.text.find("% of limit"), std::string::npos);
  EXPECT_FALSE(compare({1}, {1, 2}).ok);
  EXPECT_FALSE(compare({-0.0}, {0.0}, Limit::bits()).ok);
}

TEST(Tester, WriteBehindTheEndIsFound) {
  const OpCase c = copier([](const Tensors& out, const Tensors&) {
    set(out[0], out[0].numel(), 1);  // inside the pool's block, so no sanitizer would see it
  });
  EXPECT_TRUE(mentions(check_precision(c), "guard bytes")) << lines(check_precision(c));
  const OpCase before = copier([](const Tensors& out, const Tensors&) { set(out[0], -1, 1); });
  EXPECT_TRUE(mentions(check_executor(before, Device::emulated), "guard bytes"));
}

TEST(Tester, WriteBetweenStridedRowsIsFound) {
  const OpCase c = strided(copier([](const Tensors& out, const Tensors&) { set(out[0], 5, 1); }));
  EXPECT_TRUE(mentions(check_precision(c), "between the strided rows"))
      << lines(check_precision(c));
}

TEST(Tester, ReadBetweenStridedRowsIsFound) {
  const OpCase c = strided(copier([](const Tensors& out, const Tensors& in) {
    const double v = in[0].dtype() == DType::f64 ? in[0].data<double>()[5]
                                                 : static_cast<double>(in[0].data<float>()[5]);
    set(out[0], 0, v);
  }));
  EXPECT_TRUE(mentions(check_precision(c), "nan"));
}

TEST(Tester, ChangedInputIsFound) {
  const OpCase c = copier([](const Tensors&, const Tensors& in) { set(in[0], 3, 0.25); });
  EXPECT_TRUE(mentions(check_precision(c), "changed by the op"));
}

TEST(Tester, ThrownErrorIsAFinding) {
  const OpCase c =
      copier([](const Tensors&, const Tensors&) { throw ContractError("[copy] refused"); });
  EXPECT_TRUE(mentions(check_precision(c), "[copy] refused"));
}

template <bool Barrier>
OpCase two_sums_case() {
  OpCase o;
  o.name = Barrier ? "two_sums" : "two_sums_without_barrier";
  o.inputs = {{.shape = {3, 256}, .fill = integers(-9, 9)}};  // exact sums
  o.outputs = {{.shape = {3, 2}, .exact = true}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    if (ex.device() == Device::emulated) return emulated::two_sums<Barrier>(ex, out[0], in[0]);
    const Numbers x = download(ex, in[0]);
    for (size_t b = 0; b < 3; ++b) {
      double sum = 0;
      for (size_t i = 0; i < 256; ++i) sum += std::abs(x[b * 256 + i]) + x[b * 256 + i];
      for (int64_t copy = 0; copy < 2; ++copy) set(out[0], static_cast<int64_t>(2 * b) + copy, sum);
    }
  };
  return o;
}

TEST(Tester, DeletedBarrierIsFoundInOneOfTheWarpOrders) {
  const Findings good = check_emulated(two_sums_case<true>());
  EXPECT_TRUE(good.empty()) << lines(good);
  const Findings bad = check_emulated(two_sums_case<false>());
  EXPECT_TRUE(mentions(bad, "ending warps")) << lines(bad);
}

TEST(Tester, DataIsTheSameEveryTime) {
  const Fill fill = normal();
  EXPECT_TRUE(same_bits(make_values(fill, {3, 5}, DType::f32, 1),
                        make_values(fill, {3, 5}, DType::f32, 1)));
  EXPECT_FALSE(same_bits(make_values(fill, {3, 5}, DType::f32, 1),
                         make_values(fill, {3, 5}, DType::f32, 2)));
}

TEST(Tester, CaseNamesAreUnique) {
  std::vector<std::string> names;
  for (const OpCase& c : all_cases()) names.push_back(c.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace

}  // namespace realfake::testing
