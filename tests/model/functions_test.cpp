// Every differentiable function against central differences in double, through a random-cotangent
// loss. With each input alone needing its gradient the bits must be the same: what is not wanted is
// not saved, and nothing else may change.
#include "model/functions.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/golden.h"
#include "tests/testing/gradcheck.h"

namespace realfake::testing {
namespace {

struct In {
  Shape shape;
  Fill fill = normal();
  bool gradient = true;
};

struct FunctionCase {
  std::string name;
  std::vector<In> inputs;
  std::function<Var(Tape&, const std::vector<Var>&)> f;
};
void PrintTo(const FunctionCase& c, std::ostream* os) {
  *os << c.name;
}

Tensor constant(Tape& t, const Shape& s, const Fill& fill, uint64_t seed) {
  return upload(t.exec(), make_values(fill, s, DType::f32, seed), s, DType::f64);
}
Tensor integer_tensor(Tape& t, const std::vector<int64_t>& v, const Shape& s) {
  return t.exec().from_vector(v, s);
}

Var activation_of(Tape& t, const std::vector<Var>& v, Activation a) {
  return activate(t, v[0], a);
}

std::vector<FunctionCase> cases() {
  using V = const std::vector<Var>&;
  std::vector<FunctionCase> all{
      {"linear",
       {{{2, 3, 5}}, {{4, 5}}, {{4}}},
       [](Tape& t, V v) { return linear(t, v[0], v[1], v[2]); }},
      {"linear_no_bias",
       {{{3, 5}}, {{4, 5}}},
       [](Tape& t, V v) { return linear(t, v[0], v[1], Var()); }},
      {"lora_linear",
       {{{2, 3, 5}}, {{4, 5}, normal(), false}, {{4}, normal(), false}, {{2, 5}}, {{4, 2}}},
       [](Tape& t, V v) { return lora_linear(t, v[0], v[1], v[2], v[3], v[4], 0.7); }},
      {"conv2d",
       {{{2, 5, 4, 3}}, {{4, 3, 3, 3}}, {{4}}},
       [](Tape& t, V v) { return conv2d(t, v[0], v[1], v[2], ConvParams::same(3)); }},
      {"conv2d_stride_asymmetric",
       {{{2, 6, 4, 3}}, {{2, 3, 3, 3}}},
       [](Tape& t, V v) {
         return conv2d(t, v[0], v[1], Var(), ConvParams{2, 0, 1, 0, 1});
       }},
      {"group_norm",
       {{{2, 3, 2, 6}}, {{6}, normal(0.3, 1)}, {{6}}},
       [](Tape& t, V v) { return group_norm(t, v[0], v[1], v[2], 3, 1e-5, false); }},
      {"group_norm_silu",
       {{{2, 3, 2, 6}}, {{6}, normal(0.3, 1)}, {{6}}},
       [](Tape& t, V v) { return group_norm(t, v[0], v[1], v[2], 2, 1e-6, true); }},
      {"layer_norm",
       {{{2, 3, 7}}, {{7}, normal(0.3, 1)}, {{7}}},
       [](Tape& t, V v) { return layer_norm(t, v[0], v[1], v[2], 1e-5); }},
      {"batch_norm",
       {{{3, 2, 2, 4}}, {{4}, normal(0.3, 1)}, {{4}}},
       [](Tape& t, V v) {
         const Tensor mean = t.exec().zeros({4}, DType::f64),
                      var = t.exec().full({4}, 1, DType::f64);
         return batch_norm(t, v[0], v[1], v[2], mean, var, Var(), 1e-5, 0.1, false, true);
       }},
      {"batch_norm_residual_relu",
       {{{3, 2, 2, 4}}, {{4}, normal(0.3, 1)}, {{4}}, {{3, 2, 2, 4}}},
       [](Tape& t, V v) {
         const Tensor mean = t.exec().zeros({4}, DType::f64),
                      var = t.exec().full({4}, 1, DType::f64);
         return batch_norm(t, v[0], v[1], v[2], mean, var, v[3], 1e-5, 0.1, true, true);
       }},
      {"batch_norm_residual_itself",
       {{{3, 2, 2, 4}}, {{4}, normal(0.3, 1)}, {{4}}},
       [](Tape& t, V v) {
         const Tensor mean = t.exec().zeros({4}, DType::f64),
                      var = t.exec().full({4}, 1, DType::f64);
         return batch_norm(t, v[0], v[1], v[2], mean, var, v[0], 1e-5, 0.1, false, true);
       }},
      {"attention_key_is_value",
       {{{2, 3, 8}}, {{2, 5, 8}}},
       [](Tape& t, V v) { return attention(t, v[0], v[1], v[1], 2, 0.5, false); }},
      {"silu", {{{3, 5}}}, [](Tape& t, V v) { return activation_of(t, v, Activation::silu); }},
      {"gelu", {{{3, 5}}}, [](Tape& t, V v) { return activation_of(t, v, Activation::gelu); }},
      {"quick_gelu",
       {{{3, 5}}},
       [](Tape& t, V v) { return activation_of(t, v, Activation::quick_gelu); }},
      {"relu",
       {{{3, 5}, distinct(0.1)}},
       [](Tape& t, V v) { return activation_of(t, v, Activation::relu); }},
      {"geglu", {{{2, 3, 8}}}, [](Tape& t, V v) { return geglu(t, v[0]); }},
      {"attention",
       {{{2, 3, 8}}, {{2, 5, 8}}, {{2, 5, 8}}},
       [](Tape& t, V v) { return attention(t, v[0], v[1], v[2], 2, 0.5, false); }},
      {"attention_causal",
       {{{2, 4, 6}}, {{2, 4, 6}}, {{2, 4, 6}}},
       [](Tape& t, V v) { return attention(t, v[0], v[1], v[2], 3, 0.7, true); }},
      {"attention_self",
       {{{2, 4, 6}}},
       [](Tape& t, V v) { return attention(t, v[0], v[0], v[0], 2, 0.6, false); }},
      {"add", {{{3, 4}}, {{3, 4}}}, [](Tape& t, V v) { return add(t, v[0], v[1]); }},
      {"add_itself", {{{3, 4}}}, [](Tape& t, V v) { return add(t, v[0], v[0]); }},
      {"scale", {{{3, 4}}}, [](Tape& t, V v) { return scale(t, v[0], -1.7); }},
      {"add_broadcast",
       {{{2, 3, 2, 4}}, {{2, 4}}},
       [](Tape& t, V v) { return add_broadcast(t, v[0], v[1]); }},
      {"reshape_chain",
       {{{2, 3, 4}}},
       [](Tape& t, V v) {
         const Var flat = reshape(t, reshape(t, v[0], {6, 4}), {24});
         return add(t, reshape(t, flat, {4, 6}), reshape(t, scale(t, v[0], 0.5), {4, 6}));
       }},
      {"concat",
       {{{2, 2, 3}}, {{2, 2, 5}}},
       [](Tape& t, V v) { return concat_columns(t, v[0], v[1]); }},
      {"concat_itself_into_norm",
       {{{2, 3, 4}}, {{8}, normal(0.3, 1)}, {{8}}},
       [](Tape& t, V v) {
         return group_norm(t, concat_columns(t, v[0], v[0]), v[1], v[2], 1, 1e-5, true);
       }},
      {"upsample", {{{2, 2, 3, 2}}}, [](Tape& t, V v) { return upsample_nearest(t, v[0], 4, 6); }},
      {"upsample_odd",
       {{{1, 3, 4, 2}}},
       [](Tape& t, V v) { return upsample_nearest(t, v[0], 5, 7); }},
      {"global_average_pool",
       {{{2, 3, 2, 4}}},
       [](Tape& t, V v) { return global_average_pool(t, v[0]); }},
      {"max_pool",
       {{{2, 5, 6, 2}, distinct(0.05)}},
       [](Tape& t, V v) { return max_pool(t, v[0], 3, 2, 1); }},
      {"embedding",
       {{{5, 3}}},
       [](Tape& t, V v) {
         return embedding(t, v[0], integer_tensor(t, {4, 0, 4, 2, 4, 1}, {2, 3}));
       }},
      {"add_positions",
       {{{3, 4, 2}}, {{4, 2}}},
       [](Tape& t, V v) { return add_positions(t, v[0], v[1]); }},
      {"prepend_token",
       {{{3}}, {{2, 4, 3}}},
       [](Tape& t, V v) { return prepend_token(t, v[0], v[1]); }},
      {"prepend_token_shared",
       {{{2, 1, 3}}},
       [](Tape& t, V v) {
         const Var token = global_average_pool(t, reshape(t, v[0], {1, 2, 1, 3}));
         return prepend_token(t, reshape(t, token, {3}), v[0]);
       }},
      {"gather_tokens",
       {{{3, 4, 2}}},
       [](Tape& t, V v) {
         return gather_tokens(t, v[0], integer_tensor(t, {3, 0, 2}, {3}));
       }},
      {"gather_tokens_twice",
       {{{2, 4, 3}}},
       [](Tape& t, V v) {
         const Tensor index = integer_tensor(t, {1, 2}, {2});
         return add(t, gather_tokens(t, v[0], index), scale(t, gather_tokens(t, v[0], index), 2));
       }},
      {"l2_normalize", {{{3, 5}}}, [](Tape& t, V v) { return l2_normalize(t, v[0]); }},
      {"product_nt", {{{3, 5}}, {{4, 5}}}, [](Tape& t, V v) { return product_nt(t, v[0], v[1]); }},
      {"product_nt_itself", {{{3, 4}}}, [](Tape& t, V v) { return product_nt(t, v[0], v[0]); }},
      {"scale_by_exp",
       {{{3, 4}}, {{1}, normal(0.5)}},
       [](Tape& t, V v) { return scale_by_exp(t, v[0], v[1]); }},
      {"weighted_mse",
       {{{3, 2, 4}}},
       [](Tape& t, V v) {
         return weighted_mse(t, v[0], constant(t, {3, 2, 4}, normal(), 5),
                             constant(t, {3}, uniform(0.5, 2), 6));
       }},
      {"weighted_mse_plain",
       {{{3, 2, 4}}},
       [](Tape& t, V v) {
         return weighted_mse(t, v[0], constant(t, {3, 2, 4}, normal(), 5), Tensor());
       }},
      {"matching_sum",
       {{{3, 2, 4}}},
       [](Tape& t, V v) {
         return matching_sum(t, v[0], constant(t, {3, 2, 4}, normal(), 5),
                             constant(t, {3}, uniform(0.5, 2), 6));
       }},
      {"cross_entropy",
       {{{4, 5}}},
       [](Tape& t, V v) {
         return cross_entropy(t, v[0], constant(t, {4, 5}, probabilities(), 5), 0.1);
       }},
      {"kl_divergence", {{{2, 3, 6}}}, [](Tape& t, V v) { return kl_divergence(t, v[0]); }},
      {"posterior_sample",
       {{{2, 3, 6}}},
       [](Tape& t, V v) {
         return posterior_sample(t, v[0], constant(t, {2, 3, 3}, normal(), 5), 0.7);
       }},
      {"add_weighted",
       {{{1}}, {{1}}},
       [](Tape& t, V v) { return add_weighted(t, v[0], v[1], 0.3); }},
      {"add_weighted_itself",
       {{{1}}},
       [](Tape& t, V v) { return add_weighted(t, v[0], v[0], 0.3); }},
      {"checkpoint",
       {{{3, 4}}, {{4, 4}}},
       [](Tape& t, V v) {
         return checkpoint(t, v, [](Tape& inner, V in) {
           return add(inner, in[0],
                      linear(inner, activate(inner, in[0], Activation::silu), in[1], Var()));
         });
       }},
  };
  return all;
}

class Functions : public ::testing::TestWithParam<FunctionCase> {};

TEST_P(Functions, Gradient) {
  const FunctionCase& c = GetParam();
  Exec& ex = exec_of(Device::cpu);
  const uint64_t seed = seed_of(c.name);
  std::vector<Tensor> x;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    x.push_back(upload(ex, make_values(c.inputs[i].fill, c.inputs[i].shape, DType::f32, seed + i),
                       c.inputs[i].shape, DType::f64));
  Numbers cotangent;
  const auto cotangent_like = [&](const Tensor& y) {
    cotangent = make_values(normal(), y.shape(), DType::f32, seed + 100);
    return upload(ex, cotangent, y.shape(), DType::f64);
  };
  // Gradients of the inputs for which `wanted`; `times` runs into the same slots.
  const auto gradients = [&](const std::function<bool(size_t)>& wanted, int times) {
    std::vector<Var> v;
    for (size_t i = 0; i < x.size(); ++i) {
      v.push_back(wanted(i) ? leaf(x[i]) : Var(x[i]));
      if (wanted(i)) v.back().slot()->persistent = true;
    }
    for (int k = 0; k < times; ++k) {
      Tape tape(ex);
      const Var y = c.f(tape, v);
      EXPECT_TRUE(y.needs_grad());
      tape.backward(y, cotangent_like(y.value()));
      EXPECT_EQ(tape.nodes(), 0u);
    }
    std::vector<Numbers> g;
    for (size_t i = 0; i < x.size(); ++i)
      g.push_back(wanted(i) ? download(ex, v[i].grad()) : Numbers());
    return g;
  };
  const auto all = [&](size_t i) { return c.inputs[i].gradient; };
  const std::vector<Numbers> analytic = gradients(all, 1);

  const auto loss = [&] {
    Tape tape(ex, false);
    std::vector<Var> v;
    for (const Tensor& t : x) v.emplace_back(t);
    const Numbers y = download(ex, c.f(tape, v).value());
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += y[i] * cotangent[i];
    return sum;
  };
  for (size_t i = 0; i < x.size(); ++i) {
    if (!c.inputs[i].gradient) continue;
    double* data = x[i].data<double>();
    const Comparison r = check_gradient(
        loss, [&](int64_t k) -> double& { return data[k]; }, analytic[i],
        GradCheck{.rtol = 1e-6, .atol = 1e-8});
    EXPECT_TRUE(r.ok) << c.name << " input " << i << ": " << r.text;
    const std::vector<Numbers> alone = gradients([&](size_t k) { return k == i; }, 1);
    const Comparison same = compare(alone[i], analytic[i], Limit{.eps = 2.3e-16});
    EXPECT_TRUE(same.ok) << c.name << " input " << i << " alone: " << same.text;
  }
  // A second backward into slots that hold a gradient adds to it.
  const std::vector<Numbers> twice = gradients(all, 2);
  for (size_t i = 0; i < x.size(); ++i) {
    Numbers doubled = analytic[i];
    for (double& g : doubled) g *= 2;
    if (doubled.empty()) continue;
    const Comparison r = compare(twice[i], doubled, Limit{.eps = 2.3e-16, .magnitude = 1});
    EXPECT_TRUE(r.ok) << c.name << " input " << i << " twice: " << r.text;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Functions, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

// The bandwidth is held constant in the gradient (DESIGN 12), so the differences are of a loss
// written here with the bandwidth of the base point.
TEST(FunctionsHeld, MmdRbf) {
  Exec& ex = exec_of(Device::cpu);
  constexpr int64_t n = 3, p = 4;
  const Tensor a = upload(ex, make_values(normal(), {n, p}, DType::f32, 1), {n, p}, DType::f64);
  const Tensor b =
      upload(ex, make_values(normal(1, 0.5), {n, p}, DType::f32, 2), {n, p}, DType::f64);
  const auto d2 = [&](int64_t i, int64_t j) {  // over the 2n vectors a, b
    const auto at = [&](int64_t k) {
      return (k < n ? a.data<double>() + k * p : b.data<double>() + (k - n) * p);
    };
    double sum = 0;
    for (int64_t k = 0; k < p; ++k) sum += (at(i)[k] - at(j)[k]) * (at(i)[k] - at(j)[k]);
    return sum;
  };
  double s2 = 0;
  for (int64_t i = 0; i < 2 * n; ++i)
    for (int64_t j = i + 1; j < 2 * n; ++j) s2 += d2(i, j) / (n * (2 * n - 1));
  const auto loss = [&] {
    double total = 0;
    for (const double f : {0.25, 0.5, 1.0, 2.0, 4.0}) {
      const auto k = [&](int64_t i, int64_t j) { return std::exp(-d2(i, j) / (2 * f * s2)); };
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) {
          if (i != j) total += (k(i, j) + k(n + i, n + j)) / (n * (n - 1)) / 5;
          total -= 2 * k(i, n + j) / (n * n) / 5;
        }
    }
    return total;
  };
  Tape tape(ex);
  const Var x = leaf(a), y = mmd_rbf(tape, x, b);
  EXPECT_NEAR(ex.scalar(y.value()), loss(), 1e-13);
  tape.backward(y);
  const Comparison r = check_gradient(
      loss, [&](int64_t i) -> double& { return a.data<double>()[i]; }, download(ex, x.grad()));
  EXPECT_TRUE(r.ok) << r.text;
}

TEST(FunctionsHeld, BatchNormEvaluation) {
  Exec& ex = exec_of(Device::cpu);
  const Tensor x = upload(ex, {1, 2, 3, 4}, {2, 2}, DType::f64);
  const Tensor one = ex.full({2}, 1, DType::f64), half = ex.full({2}, 0.5, DType::f64);
  Tape tape(ex);
  const Var y = batch_norm(tape, Var(x), Var(one), Var(half), one, one, Var(), 0, 0.1, true, false);
  EXPECT_EQ(download(ex, y.value()), Numbers({0.5, 1.5, 2.5, 3.5}));
  EXPECT_EQ(download(ex, one), Numbers({1, 1}));  // running statistics untouched
  EXPECT_THROW(batch_norm(tape, leaf(x), Var(one), Var(half), one, one, Var(), 0, 0.1, true, false),
               ContractError);
  // Training: running <- 0.9 running + 0.1 batch, the variance unbiased.
  const Tensor mean = ex.zeros({2}, DType::f64), var = ex.full({2}, 1, DType::f64);
  batch_norm(tape, Var(x), Var(one), Var(half), mean, var, Var(), 1e-5, 0.1, false, true);
  const Numbers m = download(ex, mean), v = download(ex, var);
  EXPECT_NEAR(m[0], 0.2, 1e-12);
  EXPECT_NEAR(m[1], 0.3, 1e-12);
  EXPECT_NEAR(v[0], 0.9 + 0.1 * 2, 1e-12);
}

}  // namespace
}  // namespace realfake::testing
